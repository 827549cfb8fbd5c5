--[[ coupon: read one coupon.
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  none
      4 bucket       hash    code → book
      5 coupon       string  the code's record
ARGV  1 fingerprint  2 code  3 bucket, then the requested facts
Reply {OK, view}, {RECALL, events, as_of} or {outcome}
Event none
Cost  O(log n) in the coupon's live locks, at most 11 commands ]]
-- @include gate book coupon locks idempotency facts view start
-- @limits

facts_from = 4
local r, reply = start(true, true)
if not r then return reply end
local payload = view(r.c, r.book, r.now)
if lacking[1] then return recall() end
return { OUT.OK, payload }
