-- How many live locks the coupon has.
-- Reads c, max, now. Leaves live. For includes/locks.lua, steps/judge.lua and steps/view.lua.

local live = 0
if max ~= 1 then live = redis.call('ZCOUNT', W .. 'kd:' .. c.code, '(' .. whole(now), '+inf')
elseif c.lock and c.lock.deadline > now then live = 1 end
