--[[ unlock: release a lock; succeeds also if the lock was released before or has expired.
Called by service/engine/operations/lock.py; with limits it runs within lua/includes/limits.lua; lua/many.lua runs it in calls
     with others
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 bucket       hash    code → book
      5 coupon       string  the code's record
ARGV  1 fingerprint  2 code  3 bucket  4 token  5 user ('-' for anyone), then the requested facts
Reply {OK, "", "", replayed}, {RECALL, events, as_of} or {outcome}
Event none
Cost  O(log n) in the coupon's live locks, at most 28 commands, and 2 for each of at most 20 locks of it that have ended ]]
-- @include gate book coupon locks counts place
-- @limits
-- @joined

local passes_full, passes_behind = true, true
local got = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
-- @step enter
if reply then return reply end
-- @step find
-- @step book
-- @step coupon
local l = lock_by_token(c, max, ARGV[4], now)
if l and (ARGV[5] == '-' or ARGV[5] == l.user) then
  local counted, set, score = place(c, book)
  commit_without_event()
  drop_lock(c, max, l, book)
  prune_locks(c, max, now, book)
  settle(c, book, counted, set, score)
end
local outcome, payload = OUT.OK, '' -- for steps/keep.lua
-- @step keep
return { OUT.OK, '', '', 0 }
