--[[ copy_out: read some keys as they are stored, for a workspace that moves.
Called by service/hot/key_copies.py, in the worker alone
KEYS  1 gate  string  epoch and state, read first
ARGV  the keys
Reply {OK, stored value or '' for no such key, remaining life in ms or -1, …} for the first of the keys, up to 1 MiB and one key
      more; or {outcome}
Event none
Cost  at most 1 command, and 2 for each of at most 100 keys ]]
-- @include gate gate_refuses

-- Runs while the gate is full or behind, too: a move goes on.
local refusal = gate_refuses(redis.call('GET', KEYS[1]), true, true)
if refusal then return { refusal } end
local reply, size = { OUT.OK }, 0
for i = 1, #ARGV do
  local stored = redis.call('DUMP', ARGV[i]) or ''
  reply[2 * i], reply[2 * i + 1] = stored, redis.call('PTTL', ARGV[i])
  size = size + #stored
  if size > 1048576 then break end
end
return reply
