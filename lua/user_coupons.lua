--[[ user_coupons: how many coupons a user holds, of some hundred books a run.
Called by service/server/in_redis/workspace_state.py
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
ARGV  1 user  2 cursor, '0' at first
Reply {OK, held, cursor of the next run, '0' for none} or {outcome}
Event none
Cost  at most 8 commands, and 1 for each of at most 1,100 books ]]
-- @include gate gate_refuses book coupon_counts

local got = redis.call('MGET', KEYS[1], KEYS[2])
-- Runs while the gate is full or behind, too.
local refusal = gate_refuses(got[1], true, true)
if refusal then return { refusal } end
if not got[2] then return { OUT.recovering } end
return { OUT.OK, count_coupons_of(ARGV[1], read_workspace(got[2]).now, ARGV[2]) }
