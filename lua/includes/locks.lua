-- Locks: holds on one use, each for one user and order until a deadline. A code with a single use has its lock in its
-- record; one with several has a hash by holder and token, and a set of deadlines (steps/put_lock.lua). A lock is a
-- table {token, user, order ('-' for none), deadline, started (text), counted}; `counted` says which limits it holds a
-- use of: u(ser), b(ook), then a '.', and the id of the key that took it, in digits and capitals, where that key's
-- locks are limited. Needs gate.

-- The number of live locks.
local function live_locks(c, max, now)
  -- @step live
  return live
end

-- The live lock of this user and order; nil for none.
local function lock_of(c, max, user, order, now)
  -- @step lock_of
  return theirs
end

-- The live lock with this token; nil for none.
local function lock_by_token(c, max, token, now)
  -- @step lock_by_token
  return l
end

-- Remove the locks of these holders (at most 100), live or expired, and their uses of limits: one command for each set.
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

-- Remove the lock l, and its uses of limits.
local function drop_lock(c, max, l, book)
  if max ~= 1 then return forget_holders(c, { l.user .. ' ' .. l.order }, book) end
  -- @step drop_lock
end

-- Remove expired locks of this code, at most 20 (`few`: 5), with their uses of limits: a clock that goes back would
-- count them again. Returns their number for a code with several uses.
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
