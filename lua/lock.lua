--[[ lock: hold one use of a coupon for one user and order until a deadline.
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 bucket       hash    code → book
      5 coupon       string  the code's record
      6 orders       hash    order → places
      7 users        hash    book and user → the user's redemption counts
ARGV  1 fingerprint  2 code  3 bucket  4 user  5 order  6 lock_ms  7 token
Reply {OK|REPEATED, "book_id code user order token deadline", "", replayed} or {outcome, retry_ms}
Event none
Cost  O(log n) in the coupon's live locks, at most 32 commands, 10 more where locks are limited, and 2 for each of at most 20
      locks of it that have ended ]]
-- @include gate book coupon locks counts place idempotency orders judge start
-- @limits

named = ARGV[4]
local r, reply = start(false, false)
if not r then return reply end
local c, book, max, now = r.c, r.book, r.max, r.now
local user, order = ARGV[4], ARGV[5]
r.kind, r.user, r.order, r.users = 'lock', user, given(order), KEYS[7]
r.own = lock_of(c, max, user, order, now)
r.places = places(r.order and redis.call('HGET', KEYS[6], order))
local outcome
judge(r, function(refusal) outcome = refusal return true end)
if outcome == OUT.coupon_locked then return { outcome, retry_after(r) } end
if outcome then return { outcome } end

-- How many locks may live, so that nobody locks a sale empty. A book's limits are '<misses>/<locks>/<percent>', each '-'
-- where the workspace's go, or a '-' alone. HOLDER and HOLDS are the key's, where that is limited (includes/limits.lua).
-- No function of its own, since few need it: Lua makes each anew in every run.
local of_user
if not r.own and (HOLDER or r.workspace.limits or string.byte(book.terms, 2) ~= 32) then
  local function live(key) return redis.call('ZCOUNT', key, '(' .. whole(now), '+inf') end
  local locks, percent = string.match(book.terms, '^[^/ ]+/([^/]+)/(%S+) ')
  local usual_locks, usual_percent = string.match(r.workspace.limits or '', '/(.+)/(.+)$')
  of_user = tonumber(locks) or tonumber(usual_locks)
  percent = tonumber(percent) or tonumber(usual_percent)

  -- The set of deadlines that is full, of what is left for whoever comes and may not all be locked: uses of the book's
  -- total, uses of the code, free codes. One lock is always allowed.
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

local counted, set, score = place(c, book) -- before the lock changes: the record's own may be it
local l, repeated = r.own, OUT.OK
local asked = now + (tonumber(ARGV[6]) or book.lock_ms)
local till = end_of(c, book) or asked
if l then
  repeated = OUT.REPEATED
  l.deadline = math.max(l.deadline, math.min(asked, l.started + book.max_lock_ms, till))
else
  l = { token = ARGV[7], user = user, order = order, deadline = math.min(asked, now + book.max_lock_ms, till),
    started = whole(now), counted = ((book.per_user or of_user) and 'u' or '')
      .. (book.total and 'b' or '') .. '.' .. (HOLDER or '') }
end
local payload = book.id .. ' ' .. c.code .. ' ' .. user .. ' ' .. order .. ' ' .. l.token .. ' ' .. whole(l.deadline)

commit_without_event()
if c.uses == 0 and not r.own then redis.call('HSET', W .. 'n:' .. book.number, 'touched', 1) end
prune_locks(c, max, now, book)
c.max = max or 0
put_lock(c, max, l, book, now)
settle(c, book, counted, set, score)
if ARGV[1] ~= '-' then keep(KEYS[3], ARGV[1], repeated, payload, r.workspace) end
return { repeated, payload, '', 0 }
