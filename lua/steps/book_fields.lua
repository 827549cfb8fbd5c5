-- Read a book's settings into variables, as text: '-' for none. service/engine/formats/stored_settings.py makes the text,
-- which begins with a version here. Reads text. Leaves book_id, status ('a' for active), from, till (ms), per_code,
-- per_user, total, codes_per_user (limits), assigned, locked (whether a redemption needs that: '0' or '1'), lock_ms,
-- max_lock_ms, terms (the rest, for includes/book.lua and steps/terms.lua: not every script needs it).
-- For lua/lock.lua, lua/redeem.lua, includes/usual.lua and steps/book.lua. terms begins with the book's limits,
-- '<misses>/<locks of a user>/<locked percent>', '-' for none (lua/lock.lua, includes/limits.lua).
-- holding.lua reads `till` by position; lua/validate.lua has a text of all: change all.

local book_id, status, from, till, per_code, per_user, total, codes_per_user, assigned, locked, lock_ms, max_lock_ms, terms =
  string.match(text, '^%S+ (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (.*)$')
