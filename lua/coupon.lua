--[[ coupon: read one coupon.
Called by service/engine/operations/coupon_view.py; with limits it runs within lua/includes/limits.lua; lua/many.lua runs it in
     calls with others
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  none
      4 bucket       hash    code → book
      5 coupon       string  the code's record
ARGV  1 fingerprint  2 code  3 bucket, then the requested facts
Reply {OK, view}, {RECALL, events, as_of} or {outcome}
Event none
Cost  O(log n) in the coupon's live locks, at most 11 commands ]]
-- @include gate book coupon locks idempotency lacking view
-- @limits
-- @joined

facts_from = 4 -- ARGV's count + 1: where facts begin (includes/facts.lua)
local passes_full, passes_behind = true, true
local got = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
-- @step enter
if reply then return reply end
-- @step find
-- @step book
-- @step coupon
local payload = view(c, book, now)
if lacking[1] then -- view adds the events whose facts it lacks
  -- @include facts
  return recall()
end
return { OUT.OK, payload }
