--[[ validate: check a redemption and return every refusal that applies; changes nothing.
Called by service/engine/operations/redeem.py; with limits it runs within lua/includes/limits.lua; lua/many.lua runs it in
     calls with others
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 bucket       hash    code → book
      5 coupon       string  the code's record
      6 orders       hash    order → places
      7 users        hash    book and user → the user's redemption counts
ARGV  1 fingerprint  2 code  3 bucket  4 user  5 order  6 token  7 value_e4  8 currency
      9 digits (that the amounts need)  10 items  11 sees_reasons ('1' or '0'), then the requested facts
Reply {OK, "discount_e4 digits outcome outcome/figures …", view or ""}, {RECALL, events, as_of} or {outcome, figures}; without
      sees_reasons an unknown code is answered as a used-up one
Event none
Cost  O(log n) in the coupon's live locks, O(items), at most 18 commands ]]
-- @include gate coupon lacking
-- @limits
-- @joined

facts_from = 12 -- ARGV's count + 1: where facts begin (includes/facts.lua)
local sees_reasons, passes_full, passes_behind = ARGV[11] == '1', true, true
local got = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
-- @step enter
if reply then return reply end
local entry = redis.call('HGET', KEYS[4], ARGV[2])
if not entry and sees_reasons then return { OUT.coupon_not_found } end
local number = string.match(entry or '0', '^%d+')
local text = redis.call('GET', W .. 'b:' .. number)
-- An unknown code is answered as a used-up one without a book, in the same time.
if not entry then entry, text = '0!0-0', '0 - a - - 1 - - - 0 0 300000 3600000 - - - - - - - - -' end
-- @step book
-- @step coupon
local answer = ''
if sees_reasons then
  -- @step view
  answer = coupon_view
end
if lacking[1] then -- steps/view.lua adds the events whose facts it lacks
  -- @include facts
  return recall()
end
local user, order, token, users = given(ARGV[4]), ARGV[5], given(ARGV[6]), KEYS[7] -- for steps/judge.lua
local now_text = whole(now)
local kind, amount, currency, items = 'validate', tonumber(ARGV[7]), given(ARGV[8]), ARGV[10]
local order_entry = order ~= '-' and redis.call('HGET', KEYS[6], order)
local terms = book.terms
-- @step terms
local its_currency, its_digits = book_currency or usual_currency, book_currency and book_digits or usual_digits
-- Without sees_reasons the currency defaults to the workspace's: else `invalid` would reveal that the coupon exists.
local needed, most = currency and 0 or tonumber(ARGV[9]), sees_reasons and its_digits or usual_digits
if needed > tonumber(most) then
  return { OUT.invalid, (sees_reasons and its_currency or usual_currency) .. '/' .. most .. '/' .. ARGV[7] }
end
local own
if token then
  -- @step lock_by_token
  if l and (not user or l.user == user) and (l.order == '-' or l.order == order) then own = l end
elseif user then
  -- @step lock_of
  own = theirs -- of steps/lock_of.lua
end
local reasons = { needed > tonumber(its_digits) and OUT.invalid or nil }
local function fail(refusal, figures) -- for steps/judge.lua, which it never stops
  reasons[#reasons + 1] = figures and refusal .. '/' .. figures or refusal
  if refusal == OUT.coupon_assigned_to_other then MISSED = true end -- for includes/limits.lua
  return false
end
-- @step judge
table.insert(reasons, 1, whole(saved_e4) .. ' ' .. its_digits)
return { OUT.OK, table.concat(reasons, ' '), answer }
