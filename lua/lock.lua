--[[ lock: hold one use of a coupon for one user and order until a deadline.
Called by service/engine/operations/lock.py; with limits it runs within lua/includes/limits.lua; lua/run_requests.lua
     runs it in calls with others. service/engine/hot/turns.py and sold_out.py know its arguments by position
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 bucket       hash    code → book
      5 coupon       string  the code's record
      6 orders       hash    order → places
      7 users        hash    book and user → the user's redemption counts
ARGV  1 fingerprint  2 code  3 bucket  4 user  5 order  6 order_bucket  7 lock_ms  8 token
      9 price ('-', or '<value_e4 or ->/<currency or ->/<digits that they need>/<k or u><amount_e4 of a card>/<items
      or ->'), then the requested facts
Reply {OK|REPEATED, "book_id code user order token deadline left_ms[ hold]", "", replayed}, of a usual lock this text
      alone; {RECALL, events, as_of} or {outcome, retry_ms|figures}
Event none
Cost  O(log n) in the coupon's live locks, at most 43 commands, 10 more where locks are limited, 190 more where the book
      has budgets, and 3 for each of at most 20 locks of it that have ended ]]
-- @limits
-- @joined

local passes_full, passes_behind = false, false
-- @fast lock

-- @include gate book coupon asks judging
local book = read_book(number, text)
local c = read_coupon(code, bucket, entry, coupon_key)
local max, ends_at = limits_of(c, book)
local ask = {
  kind = 'lock',
  user = user,
  users = users_key,
  order = order,
  entry = order ~= '-' and redis.call('HGET', orders_key, order),
  per_order = per_order,
  value = '-',
  digits = '0',
  items = '-',
  usual_currency = usual_currency,
  usual_digits = usual_digits,
  saved_e4 = 0,
}
if price ~= '-' then
  -- @include pricing
  read_price(ask, price)
end
make_ask(ask)
local refusal = judge(c, book, max, ask, now)
if refusal then return refusal end
local own = ask.own

-- How many locks may live, so that nobody locks a sale empty. A book's limits are '<misses>/<locks>/<percent>', each
-- '-' where the workspace's applies, or a '-' alone. HOLDER and HOLDS are the key's, if limited (includes/limits.lua).
local of_user
if not own and (HOLDER or limits or book.limits) then
  local function live(key) return redis.call('ZCOUNT', key, '(' .. whole(now), '+inf') end
  local locks, percent = string.match(book.limits or '', '/(.+)/(.+)$')
  local usual_locks, usual_percent = string.match(limits or '', '/(.+)/(.+)$')
  of_user = tonumber(locks) or tonumber(usual_locks)
  percent = tonumber(percent) or tonumber(usual_percent)

  -- @include locks
  -- A set of deadlines with as many live locks as may be, `percent` of what is left for whoever comes: uses of the
  -- book's total, uses of the code, free codes. Nil for none; one lock is always allowed.
  local function full_share()
    local function is_full(taken, left) return taken >= math.max(1, math.floor(left * percent / 100)) end
    local n =
      redis.call('HMGET', W .. 'n:' .. book.number, 'taken', 'codes', 'assigned', 'redeemed', 'exhausted', 'inactive')
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
  local full = of_user and live(users) >= of_user and users
    or HOLDS and live(keys) >= HOLDS and keys
    or percent and full_share()
  if full then
    local first = redis.call('ZRANGEBYSCORE', full, '(' .. whole(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    return { OUT.lock_quota, first[2] - now }
  end
end

if not own then
  local retry_ms
  -- @holds judge_number book, user, now -> retry_ms
  if retry_ms then return { OUT.lock_quota, retry_ms } end
end

-- @include counters locking place pricing orders idempotency
local counted, set, score = place(c, book) -- before the lock changes: the record's own may be it
local l, asked = own, now + (tonumber(asked_ms) or book.lock_ms)
ends_at = ends_at or math.huge
if l and book.status then asked = l.deadline end -- as extend, which is refused then
if l then
  l.deadline = math.max(l.deadline, math.min(asked, l.started + book.max_lock_ms, ends_at))
else
  l = {
    token = new_token,
    user = user,
    order = order,
    order_bucket = order_bucket,
    deadline = math.min(asked, now + book.max_lock_ms, ends_at),
    started = now_text,
    counted = book.ended
      .. ((book.per_user or of_user) and 'u' or '')
      .. (book.total and 'b' or '')
      .. '.'
      .. (HOLDER or ''),
  }
end
l.ends = whole(l.deadline)
local hold, was = ask.value ~= '-' and hold_of(ask) or l.hold, own and (own.hold or '')
l.counted = string.gsub(l.counted, 'i?%.', hold_bytes(hold) > 0 and 'i.' or '.', 1)
local view = view_of_hold(hold, book)
local payload = book.id
  .. ' '
  .. code
  .. ' '
  .. user
  .. ' '
  .. order
  .. ' '
  .. l.token
  .. ' '
  .. l.ends
  .. ' '
  .. whole(l.deadline - now)
  .. view

-- The first write. Once it is done no other finds the memory full. If it failed it is done again, and may end the
-- script.
local touches, counters = c.uses == 0 and not own, W .. 'n:' .. number
if touches and type(redis.pcall('HSET', counters, 'touched', '1')) == 'number' then
  commit()
else
  commit_without_event()
  if touches then redis.call('HSET', counters, 'touched', '1') end
end
prune_locks(c, max, now, book)
l.hold, c.max = hold, max or 0
put_lock(c, max, l, book, now, was)
if not own or max ~= 1 then mark_lock(c, max, l, now) end
settle(c, book, counted, set, score)
keep_entry(idempotency_key, entry_of(fingerprint, own and 'OUT.REPEATED' or 'OUT.OK', payload), keep_ms, sampled_at)
return { own and OUT.REPEATED or OUT.OK, payload, '', 0 }
