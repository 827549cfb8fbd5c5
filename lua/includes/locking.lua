-- Changes of a coupon's locks (includes/locks.lua). Needs gate, counters (or tally).

local SEVERAL_BYTES = 500 -- of a lock of a code with several uses, roughly
local USUAL_HOLD = 128

-- What a price takes beyond a usual lock's: 0, or all of it where it has many items. nil for none.
local function hold_bytes(hold) return hold and #hold > USUAL_HOLD and #hold or 0 end

-- Count the memory of so many more locks, and of what they hold, for the bound of storage: in the book's `lockBytes`,
-- which has all of codes with several uses, and of others what is beyond usual. Of the former `k:<code>` has the second
-- in '+'.
local function count_bytes(c, max, book, locks, held)
  local by = held + (max ~= 1 and locks * SEVERAL_BYTES or 0)
  if by ~= 0 then count(book.number, 'lockBytes', whole(by)) end
  if max == 1 or held == 0 then return end
  local key = W .. 'k:' .. c.code
  if redis.call('HINCRBY', key, '+', whole(held)) == 0 then redis.call('HDEL', key, '+') end
end

-- Remove the locks of these holders (at most 100), live or expired, and their uses of limits: one command for each set.
local function forget_holders(c, holders, book)
  local key, fields, counting, gone, held = W .. 'k:' .. c.code, {}, {}, {}, 0
  WORK = (WORK or 0) + #holders
  local function leave(set, token)
    local tokens = counting[set] or {}
    tokens[#tokens + 1], counting[set] = token, tokens
  end
  for i, text in ipairs(redis.call('HMGET', key, unpack(holders))) do
    local token, started, counted, hold = string.match(text or '', '^(%S+) %S+ (%S+) (%S+) ?(%S*)')
    if token then
      fields[#fields + 1], fields[#fields + 2] = holders[i], '=' .. token
      local user, holder = string.match(holders[i], '^%S+'), string.match(counted, '[^.]+$')
      if string.find(counted, 'u', 1, true) then leave(W .. 'lu:' .. book.number .. ':' .. user, token) end
      if string.find(counted, 'b', 1, true) then leave(W .. 'lb:' .. book.number, token) end
      if holder then leave(W .. 'lk:' .. holder, token) end
      gone[#gone + 1] = { user = user, token = token, started = started, hold = hold }
      held = held + hold_bytes(hold)
    end
  end
  if fields[1] then redis.call('HDEL', key, unpack(fields)) end
  local locks = redis.call('ZREM', W .. 'kd:' .. c.code, unpack(holders))
  count_bytes(c, nil, book, -(tonumber(locks) or 0), -held) -- or a key of the wrong type
  for set, tokens in pairs(counting) do
    redis.call('ZREM', set, unpack(tokens))
  end
  -- @holds release c, book, gone
end

-- Remove the lock l, and its uses of limits.
local function drop_lock(c, max, l, book)
  if max ~= 1 then return forget_holders(c, { l.user .. ' ' .. l.order }, book) end
  c.lock = nil
  if l.order ~= '-' and not l.is_unmarked then
    -- @include orders
    unmark_lock(c, l)
  end
  count_bytes(c, max, book, -1, -hold_bytes(l.hold))
  -- @holds release c, book, { l }
  if l.counted == '.' then return end
  if string.find(l.counted, 'u', 1, true) then
    redis.call('ZREM', W .. 'lu:' .. book.number .. ':' .. l.user, l.token)
  end
  if string.find(l.counted, 'b', 1, true) then redis.call('ZREM', W .. 'lb:' .. book.number, l.token) end
  local holder = string.match(l.counted, '[^.]+$')
  if holder then redis.call('ZREM', W .. 'lk:' .. holder, l.token) end
end

-- Remove what is left of the locks of a code with several uses, unread.
local function drop_rest(c, book)
  local key, ends = W .. 'k:' .. c.code, W .. 'kd:' .. c.code
  local locks = tonumber(redis.call('ZCARD', ends)) or 0 -- or a key of the wrong type
  if locks > 0 then count_bytes(c, nil, book, -locks, -(tonumber(redis.call('HGET', key, '+')) or 0)) end
  redis.call('UNLINK', key, ends)
  -- @holds release_rest c, book
end

-- Remove expired locks of this code, at most 20, with their uses of limits: a clock that goes back would count them
-- again. Returns their number for a code with several uses.
local function prune_locks(c, max, now, book)
  if max == 1 then
    if c.lock and c.lock.deadline <= now then drop_lock(c, max, c.lock, book) end
    return
  end
  local most, key = math.min(20, prunable), W .. 'kd:' .. c.code
  local due = redis.call('ZRANGEBYSCORE', key, '-inf', whole(now), 'LIMIT', 0, whole(most))
  if not due[1] then return 0 end
  prunable = prunable - #due
  forget_holders(c, due, book)
  -- What the rest of them counted, a clock that goes back counts until their deadlines.
  if #due == most and redis.call('ZCOUNT', key, '(' .. whole(now), '+inf') == 0 then drop_rest(c, book) end
  return #due
end

-- Remove all of this code's locks. The uses of limits of those beyond a hundred, or `droppable`, count until their
-- deadlines.
local function drop_locks(c, max, book, now)
  if max == 1 then
    if c.lock then drop_lock(c, max, c.lock, book) end
    return
  end
  local live = redis.call(
    'ZRANGEBYSCORE',
    W .. 'kd:' .. c.code,
    '(' .. whole(now),
    '+inf',
    'LIMIT',
    0,
    whole(math.min(100, droppable))
  )
  droppable = droppable - #live
  if live[1] then forget_holders(c, live, book) end
  drop_rest(c, book)
end

-- Remove the locks of a code with several uses that the merchant ended (includes/locks.lua), a hundred fields or so of
-- the hash from this cursor of HSCAN, a text, on. Returns the next cursor, 0 at the end, and how many it removed.
local function drop_ended(c, at, book)
  local page, holders, removed = redis.call('HSCAN', W .. 'k:' .. c.code, at, 'COUNT', '100'), {}, 0
  for i = 1, #page[2], 2 do
    local counted = string.match(page[2][i + 1], '^%S+ %S+ %S+ (%S+)')
    if counted and has_ended(c, counted) then
      holders[#holders + 1], removed = page[2][i], removed + 1
    end
    if #holders == 100 then
      forget_holders(c, holders, book)
      holders = {}
    end
  end
  if holders[1] then forget_holders(c, holders, book) end
  return page[1] + 0, removed
end

-- Store the lock l, and count it where it holds a use of a limit. was: what it held before, '' for nothing; nil for a
-- new one.
local function put_lock(c, max, l, book, now, was)
  local added = 0
  if max == 1 then
    c.lock = l
  else
    local key, holder = W .. 'k:' .. c.code, l.user .. ' ' .. l.order
    if not was and redis.call('HEXISTS', key, holder) == 1 then forget_holders(c, { holder }, book) end -- expired
    local text = l.token .. ' ' .. l.ends .. ' ' .. l.started .. ' ' .. l.counted
    redis.call('HSET', key, holder, l.hold and text .. ' ' .. l.hold or text, '=' .. l.token, holder)
    added = tonumber(redis.call('ZADD', W .. 'kd:' .. c.code, l.ends, holder)) or 0
  end
  count_bytes(c, max, book, added, hold_bytes(l.hold) - hold_bytes(was))
  -- @holds hold c, book, l, was, now
  if l.counted == '.' then return end
  -- Add the lock to a set that counts it, and remove at most 20 expired locks, so that the set doesn't grow.
  local function count_in(key)
    local due = redis.call('ZRANGEBYSCORE', key, '-inf', whole(now), 'LIMIT', '0', '20')
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
