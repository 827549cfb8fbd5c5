--[[ sweep_locks: remove expired locks of coupons that no request has touched since.
Called by service/engine/hot/expired_locks.py, in the worker alone; its SWEPT_A_RUN is the LIMIT here
KEYS  1 gate       string  epoch and state, read first
      2 workspace  string  its settings
ARGV  1 book  2 set (u, a, p or o)
Reply {OK, swept} or {outcome}
Event none
Cost  at most 4 commands, 18 for each of at most 20 coupons, and 2 for each of at most 400 locks of them ]]
-- @include gate gate_refuses book coupon locking counters place

local got = redis.call('MGET', KEYS[1], KEYS[2])
-- Runs while the gate is full or behind, too: it frees memory.
local refusal = gate_refuses(got[1], true, true)
if refusal then return { refusal } end
if not got[2] then return { OUT.OK, 0 } end -- the workspace is in another partition now
local now = read_workspace(got[2]).now
local book = read_book(ARGV[1])
local due = redis.call('ZRANGEBYSCORE', W .. 'l:' .. ARGV[1] .. ':' .. ARGV[2], '-inf', whole(now), 'LIMIT', 0, 20)
for _, member in ipairs(due) do
  local bucket, code = string.match(member, '^(%d+) (%S+)$')
  local c = load_coupon(code, bucket)
  local counted, set, score = place(c, book)
  prune_locks(c, limits_of(c, book), now, book)
  settle(c, book, counted, set, score)
end
return { OUT.OK, #due }
