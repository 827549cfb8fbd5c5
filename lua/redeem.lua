--[[ redeem: spend one use of a coupon, once.
Called by service/engine/operations/redeem.py; with limits it runs within lua/includes/limits.lua; lua/run_requests.lua
     runs it in calls with others. service/engine/hot/turns.py and sold_out.py know its arguments by position
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 bucket       hash    code → book
      5 coupon       string  the code's record
      6 orders       hash    order → places
      7 outbox       stream  one event, and S where the book runs low or out
      8 users        hash    book and user → the user's redemption counts
ARGV  1 fingerprint  2 code  3 bucket  4 user  5 user_bucket  6 order  7 order_bucket  8 token  9 value_e4  10 currency
      11 request  12 digits (that the amounts need)  13 items
      14 asks ('-', or '<expected final amount, e4, or ->/<k or u><amount_e4 of a card>'), then the requested facts
Reply {OK|REPEATED, record, book_id, replayed}, of a usual redemption "record\nbook_id";
      {RECALL, events, as_of} or {outcome, retry_ms|figures}
Event R
Cost  O(log n) in the coupon's uses, O(items), at most 52 commands, 160 more where the book has budgets, 3 for each of
      at most 100 places of the order, and 3 for each of at most 20 locks of it that have ended ]]
-- @limits
-- @joined

local passes_full, passes_behind = true, false
-- @fast redeem

-- @include gate book coupon asks judging
local book = read_book(number, text)
local c = read_coupon(code, bucket, entry, coupon_key)
local max = limits_of(c, book)
local ask = make_ask({
  kind = 'redeem',
  user = user,
  users = users_key,
  user_bucket = user_bucket,
  order = order,
  order_bucket = order_bucket,
  entry = order ~= '-' and redis.call('HGET', orders_key, order),
  per_order = per_order,
  token = token,
  value = value,
  currency = currency,
  digits = digits,
  items = items,
  whose = 'k',
  usual_currency = usual_currency,
  usual_digits = usual_digits,
  saved_e4 = 0,
})
if asks ~= '-' then
  -- @include pricing
  read_asks(ask, asks)
end
if ask.entry then
  -- @include facts orders idempotency
  facts_from = ARGS.redeem + 1
  local before = redemption_before(c, user, ask.entry)
  if lacking then return recall() end
  if before then
    keep_entry(idempotency_key, entry_of(fingerprint, 'OUT.REPEATED', '@' .. before.event), keep_ms, sampled_at)
    return { OUT.REPEATED, before.record, book.id, 0 }
  end
end
local refusal = judge(c, book, max, ask, now)
if refusal then return refusal end

-- @include outbox counters place orders redemption idempotency
local decided = redeemed_event(c, book, max, ask, now)
local event = append(outbox, decided, request, fingerprint ~= '-' and fingerprint .. ' OUT.OK @.')
if not event then return { OUT.recovering } end
if c.uses == 0 and not ask.own then redis.call('HSET', W .. 'n:' .. number, 'touched', '1') end
watch_stock(outbox, book, now, apply_redeem(c, book, max, ask, event, now), 1)
-- @holds watch book, ask, now, outbox
keep_entry(idempotency_key, entry_of(fingerprint, 'OUT.OK', '@' .. event), keep_ms, sampled_at)
return { OUT.OK, event .. ' ' .. decided .. ' ' .. request, book.id, 0 }
