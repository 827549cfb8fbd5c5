-- How many live locks the coupon c has: `live`. Reads max and now.

local live = 0
if max ~= 1 then live = redis.call('ZCOUNT', W .. 'kd:' .. c.code, '(' .. whole(now), '+inf')
elseif c.lock and c.lock.deadline > now then live = 1 end
