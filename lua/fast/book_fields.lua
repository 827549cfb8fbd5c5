-- Read a book's settings into variables, as text: '-' for none (read_book of includes/book.lua). Reads text. Leaves
-- book_id, status ('a' for active), from, till (ms), per_code, per_user, total, codes_per_user (limits), assigned, locked
-- (whether a redemption needs that: '0' or '1'), lock_ms, max_lock_ms, ended (what its locks begin with, includes/locks.lua),
-- terms (the rest, for fast/terms.lua). For fast/lock.lua, fast/redeem.lua and fast/usual.lua.

local book_id, status, from, till, per_code, per_user, total, codes_per_user, assigned, locked, lock_ms, max_lock_ms, ended, terms =
  string.match(text, '^%S+ (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) %-?(%d*) (.*)$')
