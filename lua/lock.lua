--[[ lock: hold one use of a coupon for one user and order until a deadline.
Called by service/engine/operations/lock.py; with limits it runs within lua/includes/limits.lua; lua/many.lua runs it in calls
     with others. service/engine/hot/turns.py and sold_out.py know its arguments by position
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 bucket       hash    code → book
      5 coupon       string  the code's record
      6 orders       hash    order → places
      7 users        hash    book and user → the user's redemption counts
ARGV  1 fingerprint  2 code  3 bucket  4 user  5 order  6 lock_ms  7 token, then the requested facts
Reply {OK|REPEATED, "book_id code user order token deadline left_ms", "", replayed}, of a usual lock this text alone;
      {RECALL, events, as_of} or {outcome, retry_ms|figures}
Event none
Cost  O(log n) in the coupon's live locks, at most 32 commands, 10 more where locks are limited, and 2 for each of at most 20
      locks of it that have ended ]]
-- @limits
-- @joined

local passes_full, passes_behind, named = false, false, ARGV[4] -- named: the user (includes/idempotency.lua)
local got = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
-- @step enter
if reply then return reply end
-- @step find
-- @step book_fields
local fingerprint, code, bucket, user, order, asked_ms, new_token = unpack(ARGV)
local idempotency_key, bucket_key, coupon_key, orders_key, users_key = KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local touched, gathered, now_text, command = false, nil, string.format('%d', now), redis.pcall
-- @step usual_lock
if held then return held end

-- @include gate coupon counts place
local book
-- @step book_table
-- @step coupon
-- @step lock_of
local own = theirs -- of steps/lock_of.lua
local kind, users, token = 'lock', users_key, nil -- for steps/judge.lua
local amount, currency, discount_type, discount_terms, cap, least, its_currency, its_digits, items -- not judged yet
local order_entry = order ~= '-' and redis.call('HGET', orders_key, order)
-- @step refuse

-- How many locks may live, so that nobody locks a sale empty. A book's limits are '<misses>/<locks>/<percent>', each '-'
-- where the workspace's applies, or a '-' alone. HOLDER and HOLDS are the key's, if limited (includes/limits.lua).
local of_user
if not own and (HOLDER or limits or string.byte(book.terms, 2) ~= 32) then
  -- @include locks
  local function live(key) return redis.call('ZCOUNT', key, '(' .. whole(now), '+inf') end
  local locks, percent = string.match(book.terms, '^[^/ ]+/([^/]+)/(%S+) ')
  local usual_locks, usual_percent = string.match(limits or '', '/(.+)/(.+)$')
  of_user = tonumber(locks) or tonumber(usual_locks)
  percent = tonumber(percent) or tonumber(usual_percent)

  -- A set of deadlines with as many live locks as may be, `percent` of what is left for whoever comes: uses of the
  -- book's total, uses of the code, free codes. Nil for none; one lock is always allowed.
  local function full_share()
    local function is_full(taken, left) return taken >= math.max(1, math.floor(left * percent / 100)) end
    local n = redis.call('HMGET', W .. 'n:' .. book.number, 'taken', 'codes', 'assigned', 'redeemed', 'exhausted', 'inactive')
    local key = W .. 'lb:' .. book.number
    if book.total and is_full(live(key), book.total - (n[1] or 0)) then return key end
    if c.user or not max then return nil end
    local left = max - c.uses
    if is_full(live_locks(c, max, now), left) then return W .. 'kd:' .. c.code end
    if left > 1 then return nil end -- it stays open to others
    key = W .. 'l:' .. book.number .. ':u'
    if is_full(live(key), (n[2] or 0) - (n[3] or 0) - (n[4] or 0) - (n[5] or 0) - (n[6] or 0)) then return key end
  end

  local users, keys = W .. 'lu:' .. book.number .. ':' .. user, W .. 'lk:' .. (HOLDER or '')
  local full = of_user and live(users) >= of_user and users or HOLDS and live(keys) >= HOLDS and keys
    or percent and full_share()
  if full then
    local first = redis.call('ZRANGEBYSCORE', full, '(' .. whole(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    return { OUT.lock_quota, first[2] - now }
  end
end

-- The place before the lock changes: the record's own may be it. For steps/settle.lua.
local was_counted, was_set, was_score = place(c, book)
local l = own
outcome = 'OUT.OK' -- for steps/keep.lua
local asked = now + (tonumber(asked_ms) or book.lock_ms)
-- @step end
local till = ends_at or asked
if l then
  outcome = 'OUT.REPEATED'
  l.deadline = math.max(l.deadline, math.min(asked, l.started + book.max_lock_ms, till))
else
  l = { token = new_token, user = user, order = order, deadline = math.min(asked, now + book.max_lock_ms, till),
    started = now_text, counted = ((book.per_user or of_user) and 'u' or '')
      .. (book.total and 'b' or '') .. '.' .. (HOLDER or '') }
end
l.ends = whole(l.deadline)
local payload = book.id .. ' ' .. c.code .. ' ' .. user .. ' ' .. order .. ' ' .. l.token .. ' ' .. l.ends .. ' ' .. whole(l.deadline - now)

-- The first write. Once it is done no other finds the memory full. If it failed it is done again, and may end the script.
local touches, counters = c.uses == 0 and not own, W .. 'n:' .. book.number
if touches and type(redis.pcall('HSET', counters, 'touched', '1')) == 'number' then
  commit()
else
  commit_without_event()
  if touches then redis.call('HSET', counters, 'touched', '1') end
end
if max ~= 1 or c.lock and c.lock.deadline <= now then
  -- @include locks
  prune_locks(c, max, now, book)
end
c.max = max or 0
-- @step put_lock
-- @step settle
-- @step keep
return { own and OUT.REPEATED or OUT.OK, payload, '', 0 }
