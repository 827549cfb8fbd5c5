-- The coupon's live lock of a user and order. Reads c, max, now, user, order ('-' for none). Leaves theirs (nil for
-- none). For lua/lock.lua, validate.lua, includes/locks.lua, steps/lock_by_token.lua, steps/redeem_refused.lua and
-- steps/view.lua. `k:<code>` has '<user> <order>' → '<token> <ends> <started> <counted>' (steps/put_lock.lua).

local theirs
if max == 1 then
  local l = c.lock
  if l and l.deadline > now and l.user == user and l.order == order then theirs = l end
else
  local text = redis.call('HGET', W .. 'k:' .. c.code, user .. ' ' .. order)
  if text then
    local token, ends, started, counted = string.match(text, '^(%S+) (%S+) (%S+) (%S+)$')
    if tonumber(ends) > now then
      theirs = { token = token, user = user, order = order, deadline = tonumber(ends), ends = ends, started = started,
        counted = counted }
    end
  end
end
