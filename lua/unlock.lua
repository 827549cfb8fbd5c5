--[[ unlock: release a lock; succeeds also if the lock was released before or has expired.
Called by service/engine/operations/lock.py; with limits it runs within lua/includes/limits.lua; lua/run_requests.lua
     runs it in calls with others
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 bucket       hash    code → book
      5 coupon       string  the code's record
ARGV  1 fingerprint  2 code  3 bucket  4 token  5 user ('-' for anyone), then the requested facts
Reply {OK, "", "", replayed}, {RECALL, events, as_of} or {outcome}
Event none
Cost  O(log n) in the coupon's live locks, at most 32 commands, 130 more where
      the book has budgets, and 3 for each of at most 20 locks of it that have ended ]]
-- @include gate book coupon request
-- @include idempotency locks counters locking place
-- @limits
-- @joined

local reply, workspace, now = open_request(true, true, true)
if reply then return reply end
local c, book, max = find_coupon(KEYS[4], KEYS[5], ARGV[2], ARGV[3])
if not c then return { OUT.coupon_not_found } end
if book.status == 'unreadable' then return { OUT.unavailable } end
local l = lock_by_token(c, max, ARGV[4], now)
if l and (ARGV[5] == '-' or ARGV[5] == l.user) then
  local counted, set, score = place(c, book)
  commit_without_event()
  drop_lock(c, max, l, book)
  prune_locks(c, max, now, book)
  settle(c, book, counted, set, score)
  keep_entry(KEYS[3], entry_of(ARGV[1], 'OUT.OK', ''), workspace.keep_ms, workspace.sampled_at)
end -- else nothing was done, so nothing is stored: a repeat is decided anew, with the same reply
return { OUT.OK, '', '', 0 }
