--[[ set_gate: move the gate from one state to another, if it still has the expected text.
Called by service/engine/hot/redis_server.py, in the worker alone
KEYS  1 gate    string  epoch and state, read first
ARGV  1 was  2 becomes (both whole texts, '<epoch> <state>')
Reply {OK, gate} or {RECOVERING, gate}
Event none
Cost  at most 2 commands ]]
local gate = redis.call('GET', KEYS[1])
if gate ~= ARGV[1] then return { OUT.recovering, gate or '' } end
redis.call('SET', KEYS[1], ARGV[2])
return { OUT.OK, ARGV[2] }
