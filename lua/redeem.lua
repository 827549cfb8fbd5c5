--[[ redeem: spend one use of a coupon, once.
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 bucket       hash    code → book
      5 coupon       string  what is true of this code
      6 orders       hash    order → places
      7 outbox       stream  one event
ARGV  1 fingerprint  2 code  3 bucket  4 user  5 order  6 order_bucket  7 token  8 value_e4  9 currency  10 redemption_id
      11 request  12 digits (that the amounts need)  13 items
Reply {OK|REPEATED, record, book_id, replayed} or {outcome, retry_ms}
Event R
Cost  O(log n) in the coupon's uses, O(items), at most 36 commands ]]
-- @include gate outbox book coupon locks place holding money idempotency orders judge state start

local r, reply = start(true, false)
if not r then return reply end
local c, book, max, now = r.c, r.book, r.max, r.now
local user, order, order_bucket, token, id = ARGV[4], ARGV[5], ARGV[6], given(ARGV[7]), ARGV[10]
r.kind, r.user, r.order, r.token = 'redeem', user, given(order), token
r.value, r.currency = tonumber(ARGV[8]), given(ARGV[9])
r.places = r.order and places(redis.call('HGET', KEYS[6], order)) or {}
for _, p in ipairs(r.places) do
  if p.code == c.code and p.user == user and p.state == 's' then
    if ARGV[1] ~= '-' then keep(KEYS[3], ARGV[1], OUT.REPEATED, '@' .. p.id, r.workspace) end
    return { OUT.REPEATED, redis.call('GET', W .. 'r:' .. p.id), book.id, 0 }
  end
end
local currency = r.currency or book.currency or r.workspace.currency
local digits = currency == book.currency and book.digits or r.workspace.digits
if not r.currency and tonumber(ARGV[12]) > digits then return { OUT.invalid } end
if token then
  local l = lock_by_token(c, max, token, now)
  if l and l.user == user and (l.order == '-' or l.order == order) then r.own = l end
else
  r.own = lock_of(c, max, user, order, now)
end
local outcome
judge(r, function(found) outcome = found return true end)
if outcome == OUT.coupon_locked then return { outcome, retry_after(r) } end
if outcome then return { outcome } end

local discount = r.value and whole(discount_of(book, r.value, digits, ARGV[13])) or '0'
local slot = r.order and free_slot(r.places) or 0
local decided = 'R ' .. workspace_number() .. ' ' .. book.number .. ' ' .. c.code .. ' ' .. user .. ' ' .. order
  .. ' ' .. id .. ' ' .. ARGV[8] .. ' ' .. currency .. ' ' .. digits .. ' ' .. discount .. ' ' .. now .. ' ' .. slot
  .. ' ' .. c.bucket .. ' ' .. order_bucket .. ' ' .. (max or 0)
local entry = ARGV[1] ~= '-' and ARGV[1] .. ' ' .. OUT.OK .. ' @' .. id or nil
local event = append(KEYS[7], decided, ARGV[11], entry)
if not event then return { OUT.recovering } end

if c.uses == 0 and not r.own then redis.call('HSET', W .. 'n:' .. book.number, 'touched', 1) end
local record = event .. ' - - ' .. decided .. ' ' .. ARGV[11]
apply_redeem(c, book, max, { id = id, user = user, order = order, order_bucket = order_bucket, slot = slot,
  discount = discount, at = now, record = record }, r.places, r.own)
if entry then keep(KEYS[3], ARGV[1], OUT.OK, '@' .. id, r.workspace) end
return { OUT.OK, record, book.id, 0 }
