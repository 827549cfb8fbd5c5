--[[ checkout: redeem a coupon and give the order's gift, as one change; either may be missing.
Called by service/engine/operations/checkout.py; with limits it runs within lua/includes/limits.lua
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 bucket       hash    code → book; none without a code
      5 coupon       string  the code's record; none without one
      6 orders       hash    order → places
      7 outbox       stream  one event, and S where a book runs low or out
      8 gifts        hash    order → its gift
      9 books        hash    book's uuid → its number
      10 users       hash    book and user → the user's redemption counts
ARGV  1 fingerprint  2 code  3 bucket  4 user  5 user_bucket  6 order  7 order_bucket  8 token  9 value_e4  10 currency
      11 request  12 digits (that the amounts need)  13 items  14 gift_book_id
      15 asks ('-', or '<expected final amount, e4, or ->/<k or u><amount_e4 of a card>'), then the requested facts
Reply {OK|REPEATED, record or "", its book_id or "", replayed, "<the workspace's digits> <the gift's view, or ->"},
      {RECALL, events, as_of} or {outcome, retry_ms|figures}
Event R with the gift's book, code and bucket; without a redemption A; without either K, where there is a key
Cost  at most 132 commands, 160 more where the book has budgets, O(items), 3 for each of at most 100 places of the
      order,
      22 for each of at most 50 coupons whose locks have ended and that it takes back, 2 for each of at most 400 such
      locks, and 1 for each of at most 1,000 books of which the user holds coupons with an end of their own, where their
      number is limited ]]
-- @include gate book coupon request
-- @include idempotency facts events orders view asks judging gifts repeats
-- @limits

facts_from, named = ARGS.checkout + 1, ARGV[4] -- named: the user (includes/idempotency.lua)
local user, order, fingerprint = ARGV[4], ARGV[6], ARGV[1]
local reply, workspace, now = open_request(true, false, false, while_bought)
if reply then return reply end
local c, book, max, ask -- of the redemption; nil without a code
if ARGV[2] ~= '-' then
  c, book, max = find_coupon(KEYS[4], KEYS[5], ARGV[2], ARGV[3])
  if not c then return { OUT.coupon_not_found } end
  ask = make_ask({
    kind = 'redeem',
    user = user,
    users = KEYS[10],
    user_bucket = ARGV[5],
    order = order,
    order_bucket = ARGV[7],
    entry = entry_of_order(KEYS[6], order),
    per_order = workspace.per_order,
    token = ARGV[8],
    value = ARGV[9],
    currency = ARGV[10],
    digits = ARGV[12],
    items = ARGV[13],
    whose = 'k',
    usual_currency = workspace.currency,
    usual_digits = workspace.digits,
    saved_e4 = 0,
  })
  if ARGV[15] ~= '-' then
    -- @include pricing
    read_asks(ask, ARGV[15])
  end
end
local wanted = ARGV[14] ~= '-' and ARGV[14]
local number = wanted and redis.call('HGET', KEYS[9], wanted)
if wanted and not number then return { OUT.book_not_found } end

local before = ask and ask.entry and redemption_before(c, user, ask.entry)
local standing, its_book = gift_of(KEYS[8], order)
local mine = standing and standing.user == user

-- What answers and a key's entry say of the gift.
local function gift_answer(gift_view) return workspace.digits .. ' ' .. (gift_view or '-') end

if lacking then return recall() end
if before or (mine and not c) then
  local rest = gift_answer(mine and view(standing, its_book, now))
  if lacking then return recall() end
  local event, record = before and before.event or '', before and before.record or ''
  local stored = not workspace.is_anew and entry_of(fingerprint, 'OUT.REPEATED', '@' .. event .. ' ' .. rest)
  keep_entry(KEYS[3], stored, workspace.keep_ms, workspace.sampled_at)
  return { OUT.REPEATED, record, before and book.id or '', 0, rest }
end
if c then
  ask.is_of_another_user = standing and not mine
  local refusal = judge(c, book, max, ask, now)
  if refusal then return refusal end
else
  -- @include pricing
  local amounts = { value = ARGV[9], digits = ARGV[12], items = ARGV[13] }
  local misfit = ARGV[10] == '-' and misfit_of(amounts, workspace.currency, workspace.digits)
  if misfit then return { OUT.invalid, misfit } end
end
if standing and not mine then return { OUT.order_already_used } end
-- the expected final amount; without a coupon it is the order's value
local text = not c and string.match(ARGV[15], '^%d+')
if text and text ~= ARGV[9] then
  local currency = ARGV[10] == '-' and workspace.currency or ARGV[10]
  return { OUT.price_changed, ARGV[9] .. '/' .. text .. '/' .. currency .. '/-' }
end
-- @include outbox counters locking place coupon_counts redemption assigning assignment picking

-- The gift and its book; nil where there is none to give, which doesn't stop the sale. passed: there may be a free one
-- that it did not read; then nothing is sold yet, and the client asks again.
local function choose_gift()
  local id = book and book.gift_book or workspace.gift_book
  number = number or id and redis.call('HGET', KEYS[9], id)
  if not number then return nil end
  local of = read_book(number)
  local is_last, left = c and max and c.uses + 1 >= max, nil
  if c then
    -- @holds left c -> left
  end
  if left then is_last = left == ask.saved_e4 end
  local freed = is_last and c.user == user and 1 or 0
  if book_refuses(of, now) or user_refuses(user, of, workspace.max_coupons, now, freed) then return nil end
  local found, passed = find_free(of, now, c and c.code)
  return found, of, passed
end

local gift, gift_book, gift_view, passed
if mine then
  gift_view = view(standing, its_book, now)
else
  gift, gift_book, passed = choose_gift()
end
if passed then return { OUT.unavailable } end
if gift then gift_view = assigned_view(gift, gift_book, user, now, whole(now)) end
if lacking then return recall() end
local link = { order = order, bucket = ARGV[7] }

local redeemed, decided = c and redeemed_event(c, book, max, ask, now), nil
if redeemed and gift then
  decided = redeemed .. ' ' .. gift_book.number .. ' ' .. gift.code .. ' ' .. gift.bucket
elseif redeemed then
  decided = redeemed
elseif gift then
  decided = assigned_event(gift, gift_book, user, whole(now), link)
elseif fingerprint ~= '-' then
  decided = answered_event(whole(now))
end
local rest = gift_answer(gift_view)
-- '@.' is this very event, whose id isn't known yet; '@' alone is no redemption (includes/idempotency.lua).
local event = decided
  and append(KEYS[7], decided, ARGV[11], entry_of(fingerprint, 'OUT.OK', (c and '@. ' or '@ ') .. rest))
if decided and not event then return { OUT.recovering } end

local record, took, gift_took = '', 0, 0
if c then
  if c.uses == 0 and not ask.own then redis.call('HSET', W .. 'n:' .. book.number, 'touched', '1') end
  record, took = event .. ' ' .. redeemed .. ' ' .. ARGV[11], apply_redeem(c, book, max, ask, event, now)
end
if gift then gift_took = apply_assign(gift, gift_book, user, whole(now), link) end
if gift and c and gift_book.number == book.number then
  took, gift_took = took + gift_took, 0
end
if c then watch_stock(KEYS[7], book, now, took, 1) end
if c then
  -- @holds watch book, ask, now, KEYS[7]
end
if gift then watch_stock(KEYS[7], gift_book, now, gift_took, 0) end
keep_entry(
  KEYS[3],
  entry_of(fingerprint, 'OUT.OK', (c and '@' .. event or '@') .. ' ' .. rest),
  workspace.keep_ms,
  workspace.sampled_at
)
return { OUT.OK, record, book and book.id or '', 0, rest }
