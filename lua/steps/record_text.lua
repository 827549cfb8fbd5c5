-- Write a coupon's record as text. Format: includes/coupon.lua; in Python: service/engine/formats/coupon_record.py.
-- Reads c. Leaves text (nil where the directory says it all), l, lock. For includes/coupon.lua and steps/save.lua.

local l, lock = c.lock, UNLOCKED
if l then
  lock = l.token .. ' ' .. l.user .. ' ' .. l.order .. ' ' .. l.ends .. ' ' .. l.started .. ' ' .. l.counted
end
local text = c.version .. ' ' .. (c.user or '-') .. ' ' .. c.assigned_at .. ' ' .. whole(c.uses) .. ' '
  .. (c.max and whole(c.max) or '-') .. ' ' .. (c.off or '-') .. ' ' .. (c.expires_at and whole(c.expires_at) or '-')
  .. ' ' .. (c.last or '-') .. ' ' .. lock
if text == IDLE then text = nil end
