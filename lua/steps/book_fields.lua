-- Read a book's settings, `text`, into variables, as text: '-' for none. `terms` is the rest of the settings, which others read
-- (includes/book.lua, steps/terms.lua): not every script needs them. They begin with the book's limits,
-- '<misses>/<locks of a user>/<locked percent>', '-' for none (lua/lock.lua).

local book_id, status, from, till, per_code, per_user, total, codes_per_user, assigned, locked, lock_ms, max_lock_ms, terms =
  string.match(text, '^%S+ (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (.*)$')
