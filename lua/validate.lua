--[[ validate: check a redemption and return every refusal that applies; changes nothing.
Called by service/engine/operations/redeem.py; with limits it runs within lua/includes/limits.lua; lua/run_requests.lua
     runs it in calls with others
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 bucket       hash    code → book
      5 coupon       string  the code's record
      6 orders       hash    order → places
      7 users        hash    book and user → the user's redemption counts
ARGV  1 fingerprint  2 code  3 bucket  4 user  5 order  6 token  7 value_e4  8 currency
      9 digits (that the amounts need)  10 items  11 sees_reasons ('1' or '0')
      12 whose (k or u, then the amount_e4 of a card), then the requested facts
Reply {OK, "discount_e4 digits currency value_e4 outcome outcome/figures …", view or ""}, {RECALL, events, as_of} or
      {outcome, figures}; without sees_reasons an unknown code is answered as a used-up one, and "-" stands for all
      reasons unless its book tells them
Event none
Cost  O(log n) in the coupon's live locks, O(items), at most 28 commands, and 8 more where the book has
      budgets ]]
-- @include gate book coupon request asks judging
-- @limits
-- @joined

facts_from = ARGS.validate + 1
local reply, workspace, now = open_request(true, true, true)
if reply then return reply end
local _, code, bucket, user, order, token, value, currency, digits, items, sees_reasons, whose =
  unpack(ARGV, 1, ARGS.validate)
sees_reasons = sees_reasons == '1'
local c, book, max = find_coupon(KEYS[4], KEYS[5], code, bucket)
if not c and sees_reasons then return { OUT.coupon_not_found } end
if not c then
  -- An unknown code is answered as a used-up one without a book, in the same time.
  redis.call('GET', W .. 'b:0')
  c, max = read_coupon(code, bucket, '0!0-0'), 1
  book = read_book('0', '{book of none}')
end
local answer = ''
if sees_reasons then
  -- @include view
  answer = view(c, book, now)
end
if lacking then -- view adds the events whose facts it lacks
  -- @include facts
  return recall()
end
local reasons = { '' }
local ask = make_ask({
  kind = 'validate',
  user = user ~= '-' and user or nil,
  users = KEYS[7],
  order = order,
  entry = order ~= '-' and redis.call('HGET', KEYS[6], order),
  per_order = workspace.per_order,
  token = token,
  value = value,
  currency = currency,
  digits = digits,
  items = items,
  whose = string.sub(whose, 1, 1),
  amount = tonumber(string.sub(whose, 2)),
  usual_currency = workspace.currency,
  usual_digits = workspace.digits,
  reasons = reasons,
  saved_e4 = 0,
})
judge(c, book, max, ask, now)
-- The order's own, whatever the coupon; of an amount only who may know that the coupon is no card.
local misfit = string.match(reasons[2] or '', '^OUT.invalid/(.*)$')
if misfit and (sees_reasons or string.sub(misfit, 1, 6) ~= 'amount') then return { OUT.invalid, misfit } end
local tells = book.public_reasons -- when, or with which order, the coupon can be used, if nothing else is in the way
for i = 2, #reasons do
  local refused = tonumber(string.match(reasons[i], '^%d+'))
  if refused == OUT.unavailable then return { OUT.unavailable } end
  if sees_reasons then
    MISSED = MISSED or refused == OUT.coupon_assigned_to_other -- for includes/limits.lua
  else
    tells = tells
      and (
        refused == OUT.not_started
        or refused == OUT.expired
        or refused == OUT.order_value_too_low
        or refused == OUT.order_value_required
      )
  end
end
if not sees_reasons and not tells and #reasons > 1 then
  MISSED, reasons = true, { '', '-' }
end
local its_own = ask.currency or ask.value ~= '-' and ask.usual_currency or ask.its_currency
reasons[1] = whole(ask.saved_e4) .. ' ' .. ask.its_digits .. ' ' .. its_own .. ' ' .. ask.value
return { OUT.OK, table.concat(reasons, ' '), answer }
