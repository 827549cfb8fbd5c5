--[[ redeem: spend one use of a coupon, once.
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 bucket       hash    code → book
      5 coupon       string  what is true of this code
      6 orders       hash    order → places
      7 outbox       stream  one event, and S where the book runs low or out
      8 users        hash    book and user → what the user has redeemed
ARGV  1 fingerprint  2 code  3 bucket  4 user  5 user_bucket  6 order  7 order_bucket  8 token  9 value_e4  10 currency
      11 request  12 digits (that the amounts need)  13 items, then the facts that were asked for
Reply {OK|REPEATED, record, book_id, replayed}, {RECALL, events, as_of} or {outcome, retry_ms}
Event R
Cost  O(log n) in the coupon's uses, O(items), at most 42 commands, 3 for each of at most 100 places of the order, and 2 for
      each of at most 20 locks of it that have ended ]]
-- @include gate outbox book coupon locks counts place holding money idempotency orders judge events facts replaying state stock
-- @limits
-- @include start redeeming

facts_from = 14
local r, reply = start(true, false)
if not r then return replayed(reply) end
local a = { user = ARGV[4], user_bucket = ARGV[5], order = ARGV[6], order_bucket = ARGV[7], token = ARGV[8],
  value = ARGV[9], currency = ARGV[10], digits = ARGV[12], items = ARGV[13], orders = KEYS[6], users = KEYS[8] }
local before = redeemed_before(r, a)
if lacking[1] then return recall() end
if before then
  if ARGV[1] ~= '-' then keep(KEYS[3], ARGV[1], OUT.REPEATED, '@' .. before.event, r.workspace) end
  return { OUT.REPEATED, before.record, r.book.id, 0 }
end
local no = redeem_refused(r, a)
if no then return no end

local decided = redeemed_event(r, a)
local entry = ARGV[1] ~= '-' and ARGV[1] .. ' ' .. OUT.OK .. ' @.' or nil
local event = append(KEYS[7], decided, ARGV[11], entry)
if not event then return { OUT.recovering } end
local took = redeem(r, a, event)
watch_stock(KEYS[7], r.book, r.now, took, 1)
if entry then keep(KEYS[3], ARGV[1], OUT.OK, '@' .. event, r.workspace) end
return { OUT.OK, event .. ' ' .. decided .. ' ' .. ARGV[11], r.book.id, 0 }
