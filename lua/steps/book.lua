-- Read a book's settings, `text`, into `book`. Numbers that are only added to others stay text. `terms` is the rest of the
-- settings, which others read (includes/book.lua, steps/terms.lua): not every script needs them. They begin with the book's
-- limits, '<misses>/<locks of a user>/<locked percent>', '-' for none (lua/lock.lua).

local book
do
  local id, status, from, till, per_code, per_user, total, codes_per_user, assigned, locked, lock_ms, max_lock_ms, terms =
    string.match(text, '^%S+ (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (.*)$')
  book = {
    number = number, id = id, active = status == 'a', from = tonumber(from), till = tonumber(till),
    per_code = tonumber(per_code), per_user = tonumber(per_user), total = tonumber(total),
    codes_per_user = tonumber(codes_per_user), require_assignment = assigned == '1', require_lock = locked == '1',
    lock_ms = lock_ms, max_lock_ms = max_lock_ms, terms = terms,
  }
end
