-- When a new lock ends, as text, into variables which its users declare. Reads asked_ms, lock_ms, max_lock_ms, till,
-- now. Leaves ms_text (how long it lives), ends_text (false where the book has ended). For fast/lock.lua and
-- fast/usual.lua.

ms_text = lock_ms -- which is at most max_lock_ms
if asked_ms ~= '-' then ms_text = asked_ms - max_lock_ms > 0 and max_lock_ms or asked_ms end
local ends = now + ms_text
if till ~= '-' and ends > till + 0 then
  ends, ms_text = till + 0, string.format('%d', till - now)
end
ends_text = ends > now and string.format('%d', ends)
