-- Read a book's settings, `text` (made by service/formats/stored_settings.py, after a version), into variables, as
-- text: '-' for none. total, per_code, per_user and codes_per_user are limits; assigned and locked say whether a
-- redemption needs that. `till` is also read by position in includes/retired.lua and holding.lua; lua/validate.lua has
-- a text of all. `terms` is the rest, which others read (includes/book.lua, steps/terms.lua): not every script needs
-- it. It begins with the book's limits, '<misses>/<locks of a user>/<locked percent>', '-' for none (lua/lock.lua,
-- includes/limits.lua).

local book_id, status, from, till, per_code, per_user, total, codes_per_user, assigned, locked, lock_ms, max_lock_ms, terms =
  string.match(text, '^%S+ (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (.*)$')
