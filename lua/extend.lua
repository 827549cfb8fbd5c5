--[[ extend: move a live lock's deadline, never back, never past its ceiling.
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 bucket       hash    code → book
      5 coupon       string  the code's record
ARGV  1 fingerprint  2 code  3 bucket  4 token  5 lock_ms  6 user ('-' for anyone)
Reply {OK, "book_id code user order token deadline", "", replayed} or {outcome}
Event none
Cost  O(log n) in the coupon's live locks, at most 26 commands ]]
-- @include gate book coupon locks counts place idempotency start
-- @limits

local r, reply = start(true, false)
if not r then return reply end
local c, book, max, now = r.c, r.book, r.max, r.now
if c.off then return { OUT.coupon_inactive } end
if not book.active then return { OUT.book_inactive } end
local l = lock_by_token(c, max, ARGV[4], now)
if not l or (ARGV[6] ~= '-' and ARGV[6] ~= l.user) then return { OUT.lock_lost } end
local ceiling = math.min(l.started + book.max_lock_ms, end_of(c, book) or math.huge)
if ceiling <= l.deadline then return { OUT.lock_ceiling } end

local counted, set, score = place(c, book)
l.deadline = math.max(l.deadline, math.min(now + (tonumber(ARGV[5]) or book.lock_ms), ceiling))
local payload = book.id .. ' ' .. c.code .. ' ' .. l.user .. ' ' .. l.order .. ' ' .. l.token .. ' '
  .. whole(l.deadline)
commit_without_event()
put_lock(c, max, l, book, now)
settle(c, book, counted, set, score)
if ARGV[1] ~= '-' then keep(KEYS[3], ARGV[1], OUT.OK, payload, r.workspace) end
return { OUT.OK, payload, '', 0 }
