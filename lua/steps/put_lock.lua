-- Store a lock of the coupon c, and count it where it holds a use of a limit.
-- Reads c, l (fields: includes/locks.lua), max, book, now, now_text (as text).
-- For lua/extend.lua and lock.lua. Of a code with several uses `k:<code>` has '<user> <order>' → '<token> <ends>
-- <started> <counted>' and '=<token>' → '<user> <order>', and `kd:<code>` the deadlines: steps/lock_of.lua,
-- lock_by_token.lua, includes/locks.lua and lua/coupon_locks.lua read them.

if max == 1 then
  c.lock = l
else
  -- @include locks
  local key, holder = W .. 'k:' .. c.code, l.user .. ' ' .. l.order
  local old = string.match(redis.call('HGET', key, holder) or '', '^%S+')
  if old and old ~= l.token then forget_holders(c, { holder }, book) end -- expired, and not pruned yet
  redis.call('HSET', key, holder, l.token .. ' ' .. l.ends .. ' ' .. l.started .. ' ' .. l.counted,
    '=' .. l.token, holder)
  redis.call('ZADD', W .. 'kd:' .. c.code, l.ends, holder)
end
if l.counted ~= '.' then
  -- Add the lock to a set that counts it, and remove at most 20 expired locks, so that the set doesn't grow.
  local function count_in(key)
    local due = redis.call('ZRANGEBYSCORE', key, '-inf', now_text, 'LIMIT', '0', '20')
    if #due > 0 then redis.call('ZREM', key, unpack(due)) end
    redis.call('ZADD', key, l.ends, l.token)
  end
  if string.find(l.counted, 'u', 1, true) then
    local key = W .. 'lu:' .. book.number .. ':' .. l.user
    count_in(key)
    -- The key names the user, so it goes by itself, an hour (a test workspace's clock may go back) after its last lock.
    local last = redis.call('ZRANGE', key, '-1', '-1', 'WITHSCORES')[2]
    if last then redis.call('PEXPIRE', key, whole(last - now + 3600000)) end
  end
  if string.find(l.counted, 'b', 1, true) then count_in(W .. 'lb:' .. book.number) end
  local holder = string.match(l.counted, '[^.]+$')
  if holder then count_in(W .. 'lk:' .. holder) end
end
