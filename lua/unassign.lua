--[[ unassign: take an assignment back, while nothing of the coupon is locked or used.
Called by service/engine/operations/unassign.py; with limits it runs within lua/includes/limits.lua;
     lua/run_requests.lua runs it in calls with others
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 bucket       hash    code → book
      5 coupon       string  the code's record
      6 outbox       stream  one event
ARGV  1 fingerprint  2 code  3 bucket  4 request, then the requested facts
Reply {OK, view, "", replayed}, {RECALL, events, as_of} or {outcome, retry_ms}
Event U
Cost  at most 42 commands, and 2 for each of at most 20 locks of the coupon that have ended ]]
-- @include gate book coupon request
-- @include idempotency locks retry_after coupon_counts view
-- @limits
-- @joined

local reply, workspace, now = open_request(true, false, true)
if reply then return reply end
local c, book, max = find_coupon(KEYS[4], KEYS[5], ARGV[2], ARGV[3])
if not c then return { OUT.coupon_not_found } end
if book.status == 'unreadable' then return { OUT.unavailable } end
if not c.user then return { OUT.coupon_not_assigned } end
if live_locks(c, max, now) > 0 then return { OUT.coupon_locked, retry_after(c, max, now) } end
if max and max > 1 and c.uses >= max then return { OUT.coupon_exhausted } end
if c.uses > 0 then return { OUT.coupon_redeemed } end -- in part, too

local unassigned = {
  code = c.code,
  bucket = c.bucket,
  uses = 0,
  max = c.max,
  off = c.off,
  expires_at = c.expires_at,
  assigned_at = '-',
}
local payload = view(unassigned, book, now)
local entry = entry_of(ARGV[1], 'OUT.OK', payload)
-- @include outbox counters locking place events assignment
if not append(KEYS[6], unassigned_event(c, book, whole(now)), ARGV[4], entry) then return { OUT.recovering } end
apply_unassign(c, book, whole(now))
keep_entry(KEYS[3], entry, workspace.keep_ms, workspace.sampled_at)
return { OUT.OK, payload, '', 0 }
