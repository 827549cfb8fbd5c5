--[[ coupon: read one coupon.
Called by service/engine/operations/coupon_view.py; with limits it runs within lua/includes/limits.lua;
     lua/run_requests.lua runs it in calls with others
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  none
      4 bucket       hash    code → book
      5 coupon       string  the code's record
ARGV  1 fingerprint  2 code  3 bucket, then the requested facts
Reply {OK, view}, {RECALL, events, as_of} or {outcome}
Event none
Cost  O(log n) in the coupon's live locks, at most 16 commands ]]
-- @include gate book coupon request
-- @include view
-- @limits
-- @joined

facts_from = ARGS.coupon + 1
local reply, _, now = open_request(true, true, true)
if reply then return reply end
local c, book = find_coupon(KEYS[4], KEYS[5], ARGV[2], ARGV[3])
if not c then return { OUT.coupon_not_found } end
local payload = view(c, book, now)
if lacking then -- view adds the events whose facts it lacks
  -- @include facts
  return recall()
end
return { OUT.OK, payload }
