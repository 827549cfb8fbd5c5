--[[ coupon_locks: list the live locks of a coupon, the first to end first.
Called by service/server/in_redis/workspace_state.py
KEYS  1 gate       string  epoch and state, read first
      2 workspace  string  its settings
      3 bucket     hash    code → book
      4 coupon     string  the code's record
ARGV  1 code  2 bucket
Reply {OK, live, user, order, started, deadline, user, …} for at most 20 of the live locks, or {outcome}
Event none
Cost  O(log n) in the coupon's live locks, at most 8 commands ]]
-- @include gate gate_refuses book coupon

local got = redis.call('MGET', KEYS[1], KEYS[2])
-- Runs while the gate is full or behind, too.
local refusal = gate_refuses(got[1], true, true)
if refusal then return { refusal } end
if not got[2] then return { OUT.recovering } end
local entry = redis.call('HGET', KEYS[3], ARGV[1])
if not entry then return { OUT.OK, 0 } end
local now = read_workspace(got[2]).now
local c = read_coupon(ARGV[1], ARGV[2], entry, KEYS[4])
if limits_of(c, read_book(book_number_of(entry))) == 1 then
  local l = c.lock
  if not l or l.deadline <= now then return { OUT.OK, 0 } end
  return { OUT.OK, 1, l.user, l.order, l.started, l.ends }
end
local live = redis.call('ZCOUNT', W .. 'kd:' .. c.code, '(' .. whole(now), '+inf')
local reply = { OUT.OK, live }
if live == 0 then return reply end
local holders = redis.call('ZRANGEBYSCORE', W .. 'kd:' .. c.code, '(' .. whole(now), '+inf', 'LIMIT', 0, 20)
for i, text in ipairs(redis.call('HMGET', W .. 'k:' .. c.code, unpack(holders))) do
  local ends, started = string.match(text or '', '^%S+ (%S+) (%S+) ')
  if ends then
    local size, user, order = #reply, string.match(holders[i], '^(%S+) (%S+)$')
    reply[size + 1], reply[size + 2], reply[size + 3], reply[size + 4] = user, order, started, ends
  end
end
return reply
