--[[ assign_code: give a named coupon to a user.
Called by service/engine/operations/assign.py; with limits it runs within lua/includes/limits.lua
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 bucket       hash    code → book
      5 coupon       string  the code's record
      6 outbox       stream  one event, and S where the book runs low or out
ARGV  1 fingerprint  2 code  3 bucket  4 user  5 request, then the requested facts
Reply {OK|REPEATED, view, "", replayed}, {RECALL, events, as_of} or {outcome, retry_ms|figures}
Event A
Cost  at most 52 commands, 2 for each of at most 20 locks on the coupon that have ended, and 1 for each of at most
      1,000 books of which the user holds coupons with an end of their own, where their number is limited ]]
-- @include gate book coupon request
-- @include idempotency retry_after coupon_counts view assigning repeats
-- @limits

facts_from, named = ARGS.assign_code + 1, ARGV[4] -- named: the user (includes/idempotency.lua)
local reply, workspace, now = open_request(false, false, false, while_assigned)
if reply then return reply end
local c, book, max = find_coupon(KEYS[4], KEYS[5], ARGV[2], ARGV[3])
if not c then return { OUT.coupon_not_found } end
local user = ARGV[4]
if c.off then return { OUT.coupon_inactive } end
local refusal = book_refuses(book, now)
  or (c.expires_at and now >= c.expires_at and { OUT.expired, whole(c.expires_at) })
if refusal then return refusal end
if c.user == user then
  local payload = view(c, book, now)
  if lacking then -- view adds the events whose facts it lacks
    -- @include facts
    return recall()
  end
  -- that of an event stays as Postgres has it
  local stored = not workspace.is_anew and entry_of(ARGV[1], 'OUT.REPEATED', payload)
  keep_entry(KEYS[3], stored, workspace.keep_ms, workspace.sampled_at)
  return { OUT.REPEATED, payload, '', 0 }
end
if c.user then return { OUT.coupon_assigned_to_other } end
if locked_for_another(c, max, user, now) then return { OUT.coupon_locked, retry_after(c, max, now) } end
if max and c.uses >= max then return { max == 1 and OUT.coupon_redeemed or OUT.coupon_exhausted } end
-- @holds judge_left c -> refusal
refusal = refusal or user_refuses(user, book, workspace.max_coupons, now, 0)
if refusal then return refusal end
-- @include outbox counters locking place events assignment
return assign(c, book, workspace, now, user, KEYS[6], ARGV[5])
