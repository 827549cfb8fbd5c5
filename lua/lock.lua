--[[ lock: hold one use of a coupon for one user and order until a deadline.
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 bucket       hash    code → book
      5 coupon       string  what is true of this code
      6 orders       hash    order → places
      7 users        hash    book and user → what the user has redeemed
ARGV  1 fingerprint  2 code  3 bucket  4 user  5 order  6 lock_ms  7 token
Reply {OK|REPEATED, "book_id code user order token deadline", "", replayed} or {outcome, retry_ms}
Event none
Cost  O(log n) in the coupon's live locks, at most 28 commands ]]
-- @include gate book coupon locks counts place idempotency orders judge start

local r, reply = start(false, false)
if not r then return reply end
local c, book, max, now = r.c, r.book, r.max, r.now
local user, order = ARGV[4], ARGV[5]
r.kind, r.user, r.order, r.users = 'lock', user, given(order), KEYS[7]
r.own = lock_of(c, max, user, order, now)
r.places = r.order and places(redis.call('HGET', KEYS[6], order)) or {}
local outcome
judge(r, function(found) outcome = found return true end)
if outcome == OUT.coupon_locked then return { outcome, retry_after(r) } end
if outcome then return { outcome } end

local counted, set, score = place(c, book) -- before the lock changes: the record's own may be it
local l, repeated = r.own, OUT.OK
local asked = now + (tonumber(ARGV[6]) or book.lock_ms)
local till = end_of(c, book) or asked
if l then
  repeated = OUT.REPEATED
  l.deadline = math.max(l.deadline, math.min(asked, l.started + book.max_lock_ms, till))
else
  l = { token = ARGV[7], user = user, order = order, deadline = math.min(asked, now + book.max_lock_ms, till),
    started = whole(now), counted = (book.per_user and 'u' or '') .. (book.total and 'b' or '') .. '.' }
end
local payload = book.id .. ' ' .. c.code .. ' ' .. user .. ' ' .. order .. ' ' .. l.token .. ' ' .. whole(l.deadline)

if c.uses == 0 and not r.own then redis.call('HSET', W .. 'n:' .. book.number, 'touched', 1) end
prune_locks(c, max, now)
c.max = max or 0
put_lock(c, max, l, book, now)
settle(c, book, counted, set, score)
if ARGV[1] ~= '-' then keep(KEYS[3], ARGV[1], repeated, payload, r.workspace) end
return { repeated, payload, '', 0 }
