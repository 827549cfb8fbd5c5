--[[ validate: check a redemption and return every refusal that applies; changes nothing.
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 bucket       hash    code → book
      5 coupon       string  the code's record
      6 orders       hash    order → places
      7 users        hash    book and user → the user's redemption counts
ARGV  1 fingerprint  2 code  3 bucket  4 user  5 order  6 token  7 value_e4  8 currency
      9 digits (that the amounts need)  10 items  11 sees_reasons ('1' or '0'), then the requested facts
Reply {OK, "discount_e4 digits outcome outcome …", view or ""}, {RECALL, events, as_of} or {outcome}; without
      sees_reasons an unknown code is answered as a used-up one
Event none
Cost  O(log n) in the coupon's live locks, O(items), at most 18 commands ]]
-- @include gate book coupon locks money idempotency orders judge facts view start
-- @limits

local NO_BOOK = '0 - a - - 1 - - - 0 0 300000 3600000 - - - - - - - - -'

facts_from = 12
local sees_reasons = ARGV[11] == '1'
local r, reply, workspace, now = start(true, true)
if not r then
  if sees_reasons or not workspace then return reply end
  -- An unknown code is answered as a used-up one without a book, in the same time.
  redis.call('GET', W .. 'b:0')
  r = { workspace = workspace, now = now, c = read_coupon(ARGV[2], ARGV[3], '0!0-0', nil),
    book = read_book('0', NO_BOOK), max = 1 }
end
local c, book, max = r.c, read_terms(r.book), r.max
now = r.now
local coupon_view = sees_reasons and view(c, book, now) or ''
if lacking[1] then return recall() end
r.kind, r.user, r.order, r.token, r.users = 'validate', given(ARGV[4]), given(ARGV[5]), given(ARGV[6]), KEYS[7]
r.value, r.currency = tonumber(ARGV[7]), given(ARGV[8])
r.places = places(r.order and redis.call('HGET', KEYS[6], ARGV[5]))
local digits = book.currency and book.digits or r.workspace.digits
-- Without sees_reasons the currency defaults to the workspace's: else `invalid` would reveal that the coupon exists.
local needed = r.currency and 0 or tonumber(ARGV[9])
if needed > tonumber(sees_reasons and digits or r.workspace.digits) then return { OUT.invalid } end
if r.token then
  local l = lock_by_token(c, max, r.token, now)
  if l and (not r.user or l.user == r.user) and (l.order == '-' or l.order == ARGV[5]) then r.own = l end
elseif r.user then
  r.own = lock_of(c, max, r.user, ARGV[5], now)
end
local reasons = { needed > tonumber(digits) and OUT.invalid or nil }
judge(r, function(refusal)
  reasons[#reasons + 1] = refusal
  if refusal == OUT.coupon_assigned_to_other then MISSED = true end
  return false
end)
local discount = whole(#reasons == 0 and discount_of(book, r.value, digits, ARGV[10]) or 0)
table.insert(reasons, 1, digits)
table.insert(reasons, 1, discount)
return { OUT.OK, table.concat(reasons, ' '), coupon_view }
