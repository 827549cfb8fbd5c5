--[[ user_coupons: how many coupons a user holds.
Called by service/server/hot/workspace_state.py
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
ARGV  1 user
Reply {OK, held} or {outcome}
Event none
Cost  at most 4 commands; 25 more for a user with coupons of 5,000 books ]]
-- @include gate gate_refuses book holding

local got = redis.call('MGET', KEYS[1], KEYS[2])
-- Runs while the gate is full or behind, too.
local refusal = gate_refuses(got[1], true, true)
if refusal then return { refusal } end
if not got[2] then return { OUT.recovering } end
return { OUT.OK, holds(W .. 'u:' .. ARGV[1], read_workspace(got[2]).now) }
