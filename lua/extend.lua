--[[ extend: move a live lock's deadline, never back, never past its ceiling.
Called by service/engine/operations/lock.py; with limits it runs within lua/includes/limits.lua; lua/run_requests.lua
     runs it in calls with others
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 bucket       hash    code → book
      5 coupon       string  the code's record
ARGV  1 fingerprint  2 code  3 bucket  4 token  5 lock_ms  6 user ('-' for anyone), then the requested facts
Reply {OK, "book_id code user order token deadline left_ms[ hold]", "", replayed}, {RECALL, events, as_of} or {outcome,
      figures}
Event none
Cost  O(log n) in the coupon's live locks, at most 31 commands, and 180 more where the book has budgets ]]
-- @include gate book coupon request
-- @include idempotency locks repeats pricing
-- @limits
-- @joined

local reply, workspace, now = open_request(true, false, false, while_locked)
if reply then return reply end
local c, book, max, ends_at = find_coupon(KEYS[4], KEYS[5], ARGV[2], ARGV[3])
if not c then return { OUT.coupon_not_found } end
if book.status == 'unreadable' then return { OUT.unavailable } end
if c.off then return { OUT.coupon_inactive } end
if book.status then return { OUT.book_inactive } end
local l = lock_by_token(c, max, ARGV[4], now)
if not l or (ARGV[6] ~= '-' and ARGV[6] ~= l.user) then return { OUT.lock_lost } end
local ceiling = math.min(l.started + book.max_lock_ms, ends_at or math.huge)
if ceiling <= l.deadline then return { OUT.lock_ceiling, whole(l.deadline) .. '/' .. book.max_lock_ms } end

-- @include counters locking place orders
local counted, set, score = place(c, book)
l.deadline = math.max(l.deadline, math.min(now + (tonumber(ARGV[5]) or book.lock_ms), ceiling))
l.ends = whole(l.deadline)
local view = view_of_hold(l.hold, book)
local payload = book.id
  .. ' '
  .. c.code
  .. ' '
  .. l.user
  .. ' '
  .. l.order
  .. ' '
  .. l.token
  .. ' '
  .. l.ends
  .. ' '
  .. whole(l.deadline - now)
  .. view
commit_without_event()
put_lock(c, max, l, book, now, l.hold or '')
if max ~= 1 then mark_lock(c, max, l, now) end -- until its new end
settle(c, book, counted, set, score)
keep_entry(KEYS[3], entry_of(ARGV[1], 'OUT.OK', payload), workspace.keep_ms, workspace.sampled_at)
return { OUT.OK, payload, '', 0 }
