--[[ redeem: spend one use of a coupon, once.
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 bucket       hash    code → book
      5 coupon       string  what is true of this code
      6 orders       hash    order → places
      7 outbox       stream  one event, and S where the book runs low or out
ARGV  1 fingerprint  2 code  3 bucket  4 user  5 order  6 order_bucket  7 token  8 value_e4  9 currency  10 redemption_id
      11 request  12 digits (that the amounts need)  13 items
Reply {OK|REPEATED, record, book_id, replayed} or {outcome, retry_ms}
Event R
Cost  O(log n) in the coupon's uses, O(items), at most 38 commands ]]
-- @include gate outbox book coupon locks counts place holding money idempotency orders judge state stock start redeeming

local r, reply = start(true, false)
if not r then return reply end
local a = { user = ARGV[4], order = ARGV[5], order_bucket = ARGV[6], token = ARGV[7], value = ARGV[8],
  currency = ARGV[9], id = ARGV[10], digits = ARGV[12], items = ARGV[13] }
local before = redeemed_before(r, a, KEYS[6])
if before then
  if ARGV[1] ~= '-' then keep(KEYS[3], ARGV[1], OUT.REPEATED, '@' .. before, r.workspace) end
  return { OUT.REPEATED, redis.call('GET', W .. 'r:' .. before), r.book.id, 0 }
end
local no = redeem_refused(r, a)
if no then return no end

local decided = redeemed_event(r, a)
local entry = ARGV[1] ~= '-' and ARGV[1] .. ' ' .. OUT.OK .. ' @' .. a.id or nil
local event = append(KEYS[7], decided, ARGV[11], entry)
if not event then return { OUT.recovering } end
local record, took = redeem(r, a, event, decided, ARGV[11])
watch_stock(KEYS[7], r.book, r.now, took, 1)
if entry then keep_entry(KEYS[3], entry, r.workspace) end
return { OUT.OK, record, r.book.id, 0 }
