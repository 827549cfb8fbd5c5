-- In how many ms the first blocking lock expires.
local function retry_after(c, max, now)
  if max == 1 then return c.lock and math.max(c.lock.deadline - now, 0) or 0 end
  local key = W .. 'kd:' .. c.code
  local first = redis.call('ZRANGEBYSCORE', key, '(' .. whole(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return first[2] and tonumber(first[2]) - now or 0
end
