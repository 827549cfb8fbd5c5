--[[ turn: begin a new epoch while requests go on. For a while, callers may still name the epoch before it
     (lua/includes/gate_refuses.lua).
Called by service/worker/opening/epoch_turn.py
KEYS  1 gate    string  epoch and state, read first
      2 outbox  stream  the epoch's first entry
      3 turned  string  the epoch before, and the new one
ARGV  1 new epoch  2 ms in which callers may name the epoch before it
Reply {OK} or {outcome}
Event O
Cost  at most 4 commands ]]
-- @include gate gate_refuses

local gate = redis.call('GET', KEYS[1])
if gate ~= OPEN or gate_refuses(gate, false, false) then return { OUT.recovering } end
redis.call('XADD', KEYS[2], ARGV[1] .. '-0', 'e', 'O')
redis.call('SET', KEYS[1], ARGV[1] .. ' open')
redis.call('SET', KEYS[3], EPOCH .. ' ' .. ARGV[1], 'PX', ARGV[2])
return { OUT.OK }
