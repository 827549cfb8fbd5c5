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
      11 request  12 digits (that the amounts need)  13 items  14 gift_book_id, then the requested facts
Reply {OK|REPEATED, record or "", its book_id or "", replayed, "<the workspace's digits> <the gift's view, or ->"},
      {RECALL, events, as_of} or {outcome, retry_ms|figures}
Event R with the gift's book, code and bucket; without a redemption A; without either K, where there is a key
Cost  at most 100 commands, O(items), 3 for each of at most 100 places of the order, 18 for each of at most 50 coupons whose locks
      have ended and that it takes back, and 2 for each of at most 520 such locks; 25 more for a user with coupons of 5,000
      books, where their number is limited ]]
-- @include gate outbox book coupon locks counts place holding idempotency orders events lacking facts replaying view state stock
-- @limits
-- @include redeeming assigning picking gifts

-- facts_from: ARGV's count + 1 (includes/facts.lua); named: the user, '/' in a stored answer (includes/idempotency.lua)
facts_from, named = 15, ARGV[4]
local user, order, fingerprint = ARGV[4], ARGV[6], ARGV[1]
local passes_full, passes_behind, has_code = true, false, ARGV[2] ~= '-'
local got = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
-- @step enter
if reply then return replayed(reply) end
local r -- the redemption (includes/redeeming.lua); nil without a code
if has_code then
  -- @step find
  -- @step book
  -- @step coupon
  r = { c = c, book = book, max = max, now = now, per_order = per_order, usual_currency = usual_currency,
    usual_digits = usual_digits, orders = KEYS[6], users = KEYS[10], user = user, user_bucket = ARGV[5], order = order,
    order_bucket = ARGV[7], token = given(ARGV[8]), value = ARGV[9], currency = given(ARGV[10]), digits = ARGV[12],
    items = ARGV[13] }
end
local wanted = given(ARGV[14])
local number = wanted and redis.call('HGET', KEYS[9], wanted)
if wanted and not number then return { OUT.book_not_found } end

local before = r and redeemed_before(r)
local standing, its_book = gift_of(KEYS[8], order)
local mine = standing and standing.user == user

-- What answers and a key's entry say of the gift.
local function gift_answer(gift_view) return usual_digits .. ' ' .. (gift_view or '-') end

if lacking[1] then return recall() end
if before or (mine and not r) then
  local rest = gift_answer(mine and view(standing, its_book, now))
  if lacking[1] then return recall() end
  local event, record = before and before.event or '', before and before.record or ''
  local outcome, payload = OUT.REPEATED, '@' .. event .. ' ' .. rest -- for steps/keep.lua
  -- @step keep
  return { OUT.REPEATED, record, before and r.book.id or '', 0, rest }
end
if r then
  local refusal = redeem_refused(r)
  if refusal then return refusal end
elseif ARGV[10] == '-' and tonumber(ARGV[12]) > tonumber(usual_digits) then
  return { OUT.invalid, usual_currency .. '/' .. usual_digits .. '/' .. ARGV[9] }
end
if standing and not mine then return { OUT.order_already_used } end

-- The gift and its book; nil where there is none to give, which doesn't stop the sale. passed: there may be a free one
-- that it did not read; then nothing is sold yet, and the client asks again.
local function choose_gift()
  local id = r and gift_book_of(r.book) or given(gift_book_id)
  number = number or id and redis.call('HGET', KEYS[9], id)
  if not number then return nil end
  local book = read_book(number)
  local freed = r and r.c.user == user and r.max and r.c.uses + 1 >= r.max and 1 or 0
  if book_refuses(book, now) or user_refuses(user, book, max_coupons, now, freed) then return nil end
  local c, passed = find_free(book, now, r and r.c.code)
  return c, book, passed
end

local gift, gift_book, gift_view, passed
if mine then gift_view = view(standing, its_book, now) else gift, gift_book, passed = choose_gift() end
if passed then return { OUT.unavailable } end
if gift then gift_view = assigned_view(gift, gift_book, user, now, whole(now)) end
if lacking[1] then return recall() end
local link = { order = order, bucket = ARGV[7] }

local redeemed, decided = r and redeemed_event(r), nil
if redeemed and gift then decided = redeemed .. ' ' .. gift_book.number .. ' ' .. gift.code .. ' ' .. gift.bucket
elseif redeemed then decided = redeemed
elseif gift then decided = assigned_event(gift, gift_book, user, whole(now), link)
elseif fingerprint ~= '-' then decided = answered_event(whole(now)) end
local rest = gift_answer(gift_view)
-- '@.' is this very event, whose id isn't known yet; '@' alone is no redemption (includes/idempotency.lua).
local entry = fingerprint ~= '-' and fingerprint .. ' ' .. OUT.OK .. (r and ' @. ' or ' @ ') .. without_named(rest) or nil
local event = decided and append(KEYS[7], decided, ARGV[11], entry)
if decided and not event then return { OUT.recovering } end

local record, took, gift_took = '', 0, 0
if r then record, took = event .. ' ' .. redeemed .. ' ' .. ARGV[11], redeem(r, event) end
if gift then gift_took = apply_assign(gift, gift_book, user, whole(now), link) end
if gift and r and gift_book.number == r.book.number then took, gift_took = took + gift_took, 0 end
if r then watch_stock(KEYS[7], r.book, now, took, 1) end
if gift then watch_stock(KEYS[7], gift_book, now, gift_took, 0) end
local outcome, payload = OUT.OK, (r and '@' .. event or '@') .. ' ' .. rest -- for steps/keep.lua
-- @step keep
return { OUT.OK, record, r and r.book.id or '', 0, rest }
