-- Remove the lock of a coupon that has a single use, and the uses of limits that it holds (`counted`:
-- includes/locks.lua). Reads c, l (the lock), book. For includes/locks.lua and steps/redeem.lua.

c.lock = nil
if l.counted ~= '.' then
  if string.find(l.counted, 'u', 1, true) then redis.call('ZREM', W .. 'lu:' .. book.number .. ':' .. l.user, l.token) end
  if string.find(l.counted, 'b', 1, true) then redis.call('ZREM', W .. 'lb:' .. book.number, l.token) end
  local holder = string.match(l.counted, '[^.]+$')
  if holder then redis.call('ZREM', W .. 'lk:' .. holder, l.token) end
end
