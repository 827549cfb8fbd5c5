-- The live lock with this token on the coupon. Reads c, max, now, token. Leaves l (nil where it was released, has
-- expired or never was). For lua/extend.lua, lua/validate.lua, includes/locks.lua and steps/redeem_refused.lua.
-- `k:<code>` has '=<token>' → '<user> <order>' (steps/put_lock.lua).

local l
if max == 1 then
  if c.lock and c.lock.deadline > now and c.lock.token == token then l = c.lock end
else
  local holder = redis.call('HGET', W .. 'k:' .. c.code, '=' .. token)
  if holder then
    local user, order = string.match(holder, '^(%S+) (%S+)$')
    -- @step lock_of
    if theirs and theirs.token == token then l = theirs end
  end
end
