--[[ extend: move a live lock's deadline, never back, never past its ceiling.
Called by service/engine/operations/lock.py; with limits it runs within lua/includes/limits.lua; lua/many.lua runs it in calls
     with others
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 bucket       hash    code → book
      5 coupon       string  the code's record
ARGV  1 fingerprint  2 code  3 bucket  4 token  5 lock_ms  6 user ('-' for anyone), then the requested facts
Reply {OK, "book_id code user order token deadline left_ms", "", replayed}, {RECALL, events, as_of} or {outcome, figures}
Event none
Cost  O(log n) in the coupon's live locks, at most 26 commands ]]
-- @include gate coupon counts place
-- @limits
-- @joined

local passes_full, passes_behind = true, false
local got = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
-- @step enter
if reply then return reply end
-- @step find
-- @step book
-- @step coupon
if c.off then return { OUT.coupon_inactive } end
if not book.active then return { OUT.book_inactive } end
local token = ARGV[4]
-- @step lock_by_token
if not l or (ARGV[6] ~= '-' and ARGV[6] ~= l.user) then return { OUT.lock_lost } end
-- @step end
local ceiling = math.min(l.started + book.max_lock_ms, ends_at or math.huge)
if ceiling <= l.deadline then return { OUT.lock_ceiling, whole(l.deadline) .. '/' .. book.max_lock_ms } end

local was_counted, was_set, was_score = place(c, book) -- for steps/settle.lua
l.deadline = math.max(l.deadline, math.min(now + (tonumber(ARGV[5]) or book.lock_ms), ceiling))
l.ends = whole(l.deadline)
local now_text = whole(now) -- for steps/put_lock.lua
local payload = book.id .. ' ' .. c.code .. ' ' .. l.user .. ' ' .. l.order .. ' ' .. l.token .. ' '
  .. l.ends .. ' ' .. whole(l.deadline - now)
commit_without_event()
-- @step put_lock
-- @step settle
local outcome = OUT.OK -- for steps/keep.lua
-- @step keep
return { OUT.OK, payload, '', 0 }
