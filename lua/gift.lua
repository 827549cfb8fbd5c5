--[[ gift: give a user a random free coupon of a book, once for an order.
Called by service/engine/operations/gift.py; with limits it runs within lua/includes/limits.lua
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 gifts        hash    order → its gift
      5 books        hash    book's uuid → its number
      6 outbox       stream  one event, and S where the book runs low or out
ARGV  1 fingerprint  2 book_id  3 user  4 order  5 order_bucket  6 request, then the requested facts
Reply {OK|REPEATED, view, "", replayed}, {RECALL, events, as_of} or {outcome, figures}
Event A
Cost  at most 71 commands, 22 for each of at most 50 coupons whose locks have ended and that it takes back, 2 for each
      of at most 400 such locks, and 1 for each of at most 1,000 books of which the user holds coupons with an end of
      their own, where their number is limited ]]
-- @include gate book coupon request
-- @include idempotency coupon_counts view gifts assigning repeats
-- @limits

facts_from, named = ARGS.gift + 1, ARGV[3] -- named: the user (includes/idempotency.lua)
local reply, workspace, now = open_request(false, false, false, while_given)
if reply then return reply end
local number = redis.call('HGET', KEYS[5], ARGV[2])
if not number then return { OUT.book_not_found } end
local book, user, order = read_book(number), ARGV[3], ARGV[4]
local given_before, its_book = gift_of(KEYS[4], order)
if given_before then
  if given_before.user ~= user or its_book.number ~= number then return { OUT.order_already_used } end
  local payload = view(given_before, its_book, now)
  if lacking then -- view adds the events whose facts it lacks
    -- @include facts
    return recall()
  end
  -- that of an event stays as Postgres has it
  local stored = not workspace.is_anew and entry_of(ARGV[1], 'OUT.REPEATED', payload)
  keep_entry(KEYS[3], stored, workspace.keep_ms, workspace.sampled_at)
  return { OUT.REPEATED, payload, '', 0 }
end
local refusal = book_refuses(book, now) or user_refuses(user, book, workspace.max_coupons, now, 0)
if refusal then return refusal end
-- @include outbox counters locking place events assignment picking
local c, passed = find_free(book, now) -- passed: what it did not read may have a free one
if not c then return { passed and OUT.unavailable or OUT.out_of_stock } end
return assign(c, book, workspace, now, user, KEYS[6], ARGV[6], { order = order, bucket = ARGV[5] })
