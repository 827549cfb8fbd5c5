--[[ advance_config: remember that every configuration change up to a version is here.
Called by service/engine/hot/projection.py
KEYS  1 gate         string  epoch and state, read first
      2 config       string  the last version
      3 newest       string  the newest version that anything is of
ARGV  1 from (what must have been the last)  2 to
Reply {OK, last, newest} or {outcome}
Event none
Cost  at most 2 commands ]]
-- @include gate gate_refuses

local got = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
-- Runs while the gate is full or behind, too: configuration goes on. In an opening OPEN is '<epoch> closed'.
local refusal = gate_refuses(got[1], true, true)
if refusal then return { refusal } end
local reached = tonumber(got[2] or '0')
if reached >= tonumber(ARGV[1]) and reached < tonumber(ARGV[2]) then
  reached = tonumber(ARGV[2])
  redis.call('SET', KEYS[2], whole(reached))
end
return { OUT.OK, whole(reached), got[3] or '0' }
