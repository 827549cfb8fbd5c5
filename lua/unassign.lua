--[[ unassign: take an assignment back, while nothing of the coupon is locked or used.
Called by service/engine/operations/unassign.py; with limits it runs within lua/includes/limits.lua; lua/many.lua runs it in
     calls with others
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 bucket       hash    code → book
      5 coupon       string  the code's record
      6 outbox       stream  one event
ARGV  1 fingerprint  2 code  3 bucket  4 request, then the requested facts
Reply {OK, view, "", replayed}, {RECALL, events, as_of} or {outcome, retry_ms}
Event U
Cost  at most 36 commands, and 2 for each of at most 20 locks of the coupon that have ended ]]
-- @include gate outbox book coupon locks counts place holding idempotency events lacking view state retry_after
-- @limits
-- @joined

local passes_full, passes_behind = true, false
local got = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
-- @step enter
if reply then return reply end
-- @step find
-- @step book
-- @step coupon
if not c.user then return { OUT.coupon_not_assigned } end
if live_locks(c, max, now) > 0 then return { OUT.coupon_locked, retry_after(c, max, now) } end
if max and max > 1 and c.uses >= max then return { OUT.coupon_exhausted } end
if c.uses > 0 then return { OUT.coupon_redeemed } end -- in part, too

local fingerprint, entry = ARGV[1], nil
local unassigned = { code = c.code, bucket = c.bucket, uses = 0, max = c.max, off = c.off, expires_at = c.expires_at,
  assigned_at = '-' }
local payload = view(unassigned, book, now)
if fingerprint ~= '-' then entry = entry_text(fingerprint, OUT.OK, payload) end
local event = append(KEYS[6], unassigned_event(c, book, whole(now)), ARGV[4], entry)
if not event then return { OUT.recovering } end
apply_unassign(c, book, whole(now))
if entry then keep_entry(KEYS[3], entry, keep_ms) end
return { OUT.OK, payload, '', 0 }
