--[[ sweep_locks: remove locks of coupons that no request has touched since: expired ones, and those that the merchant
     ended; or what expired ones held of a book's budgets.
Called by service/engine/hot/expired_locks.py, in the worker alone, and service/engine/hot/projection.py
KEYS  1 gate       string  epoch and state, read first
      2 workspace  string  its settings
ARGV  1 book  2 set (u, a, p or o; and a number where lua/put_book.lua set it aside; or b of budgets)
Reply {OK, swept, whether there may be more (1 or 0)} or {outcome}
Event none
Cost  at most 5 commands, 30 for each of at most 20 coupons, and 2 for each of at most 500 locks of them ]]
-- @include gate gate_refuses failing book coupon counters locking place

local got = redis.call('MGET', KEYS[1], KEYS[2])
-- Runs while the gate is full or behind, too: it frees memory. In an opening OPEN is '<epoch> closed'.
local refusal = gate_refuses(got[1], true, true)
if refusal then return { refusal } end
if not got[2] then return { OUT.OK, 0, 0 } end -- the workspace is in another partition now
local now = read_workspace(got[2]).now
local book, key = read_book(ARGV[1]), W .. 'l:' .. ARGV[1] .. ':' .. ARGV[2]
if book.status == 'unreadable' then return { OUT.OK, 0, 0 } end -- its locks wait until it can be read
local swept, left = 0, 400

if ARGV[2] == 'b' then
  -- @include budgets
  local due = redis.call('ZRANGEBYSCORE', W .. 'bl:' .. book.number, '-inf', whole(now), 'LIMIT', 0, 400)
  drop_shares(book, due)
  return { OUT.OK, 0, #due == 400 and 1 or 0 }
end

-- One coupon's. Returns its next cursor (drop_ended), 0 at the end, and the coupon unless it left Redis with its book.
-- cursor: nil for expired locks.
local function sweep(member, cursor)
  local bucket, code = string.match(member, '^(%d+) (%S+)$')
  local c = load_coupon(code, bucket)
  if not c or book_number_of(c.entry) ~= book.number then return 0 end
  local counted, set, score = place(c, book)
  local max = limits_of(c, book)
  local next_cursor, removed = 0, 0
  if cursor and max ~= 1 then
    next_cursor, removed = drop_ended(c, whole(cursor), book)
  else
    prune_locks(c, max, now, book)
  end
  left = left - removed
  settle(c, book, counted, set, score)
  return next_cursor, c
end

if #ARGV[2] == 1 then
  local due = redis.call('ZRANGEBYSCORE', key, '-inf', whole(now), 'LIMIT', 0, 20)
  for _, member in ipairs(due) do
    sweep(member)
  end
  -- A coupon with more such locks than prune_locks removes is still due.
  return { OUT.OK, #due, #due > 0 and redis.call('ZCOUNT', key, '-inf', whole(now)) > 0 and 1 or 0 }
end
-- The score of a coupon that has more is its cursor, below 0, so that it is the first of the next run.
local members = redis.call('ZRANGE', key, 0, 19, 'WITHSCORES')
for i = 1, #members, 2 do
  local member, score = members[i], members[i + 1] + 0
  local is_done, cursor, c = pcall(sweep, member, math.max(0, -score))
  if not is_done then -- the code has a key of the wrong type: a rebuild, which the worker orders, removes all its locks
    end_unless_own(cursor)
    cursor = 0
  end
  if cursor > 0 then
    redis.call('ZADD', key, whole(-cursor), member)
  else
    redis.call('ZREM', key, member)
    swept = swept + 1
    -- A lock that was made since may have left the coupon at the same place, from which it was set aside.
    if c then
      local _, set, at = place(c, book)
      if set and set ~= 'pool' then redis.call('ZADD', W .. 'l:' .. book.number .. ':' .. set, at, member) end
    end
  end
  if left <= 0 or cursor > 0 then break end
end
return { OUT.OK, swept, redis.call('ZCARD', key) > 0 and 1 or 0 }
