--[[ copy_in: write keys as another partition stores them, for a workspace that moves here.
Called by service/hot/key_copies.py, in the worker alone
KEYS  1 gate  string  epoch and state, read first
ARGV  for each key its name, its stored value or '' for no such key, its remaining life in ms or 0
Reply {OK} or {outcome}
Event none
Cost  at most 1 command, and 1 for each of at most 100 keys ]]
-- @include gate gate_refuses

-- Runs while the gate is full or behind, too: a move goes on.
local refusal = gate_refuses(redis.call('GET', KEYS[1]), true, true)
if refusal then return { refusal } end
for i = 1, #ARGV, 3 do
  if ARGV[i + 1] == '' then redis.call('UNLINK', ARGV[i])
  else redis.call('RESTORE', ARGV[i], ARGV[i + 2], ARGV[i + 1], 'REPLACE') end
end
return { OUT.OK }
