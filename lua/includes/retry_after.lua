-- In how many ms the first live lock expires; of a coupon that has one. Needs gate.
local function retry_after(c, max, now)
  if max == 1 then return c.lock.deadline - now end
  local key = W .. 'kd:' .. c.code
  local first = redis.call('ZRANGEBYSCORE', key, '(' .. whole(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return first[2] - now
end
