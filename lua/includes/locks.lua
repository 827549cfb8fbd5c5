-- Locks: holds on one use, each for one user and order until a deadline. A code with a single use has its lock in its
-- record; one with several has a hash by holder and token, and a set of deadlines. A lock is a table {token, user,
-- order ('-' for none), deadline, started (text), counted}; `counted` says which limits it holds a use of: u(ser),
-- b(ook), then a '.', and the id of the key that took it, in digits and capitals, where that key's locks are limited.

local function live_locks(c, max, now)
  if max == 1 then return c.lock and c.lock.deadline > now and 1 or 0 end
  return redis.call('ZCOUNT', W .. 'kd:' .. c.code, '(' .. whole(now), '+inf')
end

-- The stored locks, including expired ones: their number, first and last deadline.
local function stored_locks(c, max)
  if max == 1 then
    if c.lock then return 1, c.lock.deadline, c.lock.deadline end
    return 0
  end
  local key = W .. 'kd:' .. c.code
  local n = redis.call('ZCARD', key)
  if n == 0 or type(n) == 'table' then return 0 end -- none, or a key of the wrong type
  local first, last = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES'), redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
  return n, tonumber(first[2]), tonumber(last[2])
end

-- The live lock of a user and order ('-' for none); nil where there is none.
local function lock_of(c, max, user, order, now)
  if max == 1 then
    local l = c.lock
    if l and l.deadline > now and l.user == user and l.order == order then return l end
    return nil
  end
  local text = redis.call('HGET', W .. 'k:' .. c.code, user .. ' ' .. order)
  if not text then return nil end
  local token, deadline, started, counted = string.match(text, '^(%S+) (%S+) (%S+) (%S+)$')
  deadline = tonumber(deadline)
  if deadline <= now then return nil end
  return { token = token, user = user, order = order, deadline = deadline, started = started, counted = counted }
end

-- The live lock with this token; nil where it was released, has expired or never was.
local function lock_by_token(c, max, token, now)
  if max == 1 then
    local l = c.lock
    if l and l.deadline > now and l.token == token then return l end
    return nil
  end
  local holder = redis.call('HGET', W .. 'k:' .. c.code, '=' .. token)
  if not holder then return nil end
  local user, order = string.match(holder, '^(%S+) (%S+)$')
  local l = lock_of(c, max, user, order, now)
  if l and l.token == token then return l end
end

-- Remove the locks of these holders (at most 100), live or expired, and their uses of limits, with one command for each set.
local function forget_holders(c, holders, book)
  local key, fields, counting = W .. 'k:' .. c.code, {}, {}
  local function leave(set, token)
    local tokens = counting[set] or {}
    tokens[#tokens + 1], counting[set] = token, tokens
  end
  for i, text in ipairs(redis.call('HMGET', key, unpack(holders))) do
    local token, counted = string.match(text or '', '^(%S+) .* (%S+)$')
    if token then
      fields[#fields + 1], fields[#fields + 2] = holders[i], '=' .. token
      local user, holder = string.match(holders[i], '^%S+'), string.match(counted, '[^.]+$')
      if string.find(counted, 'u', 1, true) then leave(W .. 'lu:' .. book.number .. ':' .. user, token) end
      if string.find(counted, 'b', 1, true) then leave(W .. 'lb:' .. book.number, token) end
      if holder then leave(W .. 'lk:' .. holder, token) end
    end
  end
  if fields[1] then redis.call('HDEL', key, unpack(fields)) end
  redis.call('ZREM', W .. 'kd:' .. c.code, unpack(holders))
  for set, tokens in pairs(counting) do redis.call('ZREM', set, unpack(tokens)) end
end

local function drop_lock(c, max, l, book)
  if max ~= 1 then return forget_holders(c, { l.user .. ' ' .. l.order }, book) end
  c.lock = nil
  if l.counted == '.' then return end
  if string.find(l.counted, 'u', 1, true) then redis.call('ZREM', W .. 'lu:' .. book.number .. ':' .. l.user, l.token) end
  if string.find(l.counted, 'b', 1, true) then redis.call('ZREM', W .. 'lb:' .. book.number, l.token) end
  local holder = string.match(l.counted, '[^.]+$')
  if holder then redis.call('ZREM', W .. 'lk:' .. holder, l.token) end
end

-- Add a lock to a set that counts it, and remove at most 20 expired locks, so that the set doesn't grow.
local function enter(key, l, now)
  local due = redis.call('ZRANGEBYSCORE', key, '-inf', whole(now), 'LIMIT', 0, 20)
  if #due > 0 then redis.call('ZREM', key, unpack(due)) end
  redis.call('ZADD', key, whole(l.deadline), l.token)
end

-- Remove expired locks of this code, at most 20 (`few`: 5), with their uses of limits: a clock that goes back would count
-- them again. Returns their number for a code with several uses.
local function prune_locks(c, max, now, book, few)
  if max == 1 then
    if c.lock and c.lock.deadline <= now then drop_lock(c, max, c.lock, book) end
    return
  end
  local most = few and 5 or 20
  local due = redis.call('ZRANGEBYSCORE', W .. 'kd:' .. c.code, '-inf', whole(now), 'LIMIT', 0, whole(most))
  if not due[1] then return 0 end
  forget_holders(c, due, book)
  -- What the rest of them counted, a clock that goes back counts until their deadlines.
  if #due == most and live_locks(c, max, now) == 0 then redis.call('UNLINK', W .. 'k:' .. c.code, W .. 'kd:' .. c.code) end
  return #due
end

local function put_lock(c, max, l, book, now)
  if max == 1 then
    c.lock = l
  else
    local key, holder = W .. 'k:' .. c.code, l.user .. ' ' .. l.order
    local old = string.match(redis.call('HGET', key, holder) or '', '^%S+')
    if old and old ~= l.token then forget_holders(c, { holder }, book) end -- expired, and not pruned yet
    redis.call('HSET', key, holder, l.token .. ' ' .. whole(l.deadline) .. ' ' .. l.started .. ' ' .. l.counted,
      '=' .. l.token, holder)
    redis.call('ZADD', W .. 'kd:' .. c.code, whole(l.deadline), holder)
  end
  if l.counted == '.' then return end
  if string.find(l.counted, 'u', 1, true) then
    local key = W .. 'lu:' .. book.number .. ':' .. l.user
    enter(key, l, now)
    -- The key names the user, so it goes by itself, an hour (a test workspace's clock may go back) after its last lock.
    local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]
    if last then redis.call('PEXPIRE', key, whole(last - now + 3600000)) end
  end
  if string.find(l.counted, 'b', 1, true) then enter(W .. 'lb:' .. book.number, l, now) end
  local holder = string.match(l.counted, '[^.]+$')
  if holder then enter(W .. 'lk:' .. holder, l, now) end
end

-- Remove all of this code's locks. The uses of limits of those beyond a hundred count until their deadlines.
local function drop_locks(c, max, book, now)
  if max == 1 then
    if c.lock then drop_lock(c, max, c.lock, book) end
    return
  end
  local live = redis.call('ZRANGEBYSCORE', W .. 'kd:' .. c.code, '(' .. whole(now), '+inf', 'LIMIT', 0, 100)
  if live[1] then forget_holders(c, live, book) end
  redis.call('UNLINK', W .. 'k:' .. c.code, W .. 'kd:' .. c.code)
end
