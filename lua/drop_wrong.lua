--[[ drop_wrong: remove keys of the partition's own that hold another type than theirs, which nothing can read.
Called by service/engine/hot/redis_server.py, in the worker alone
KEYS  1 gate  string  epoch and state, read first
ARGV  1 epoch, then for each key its name and the type that it should be of
Reply {OK, removed} or {RECOVERING, gate} where the gate has this epoch or a later one
Event none
Cost  at most 1 command, and 2 for each of at most 10 keys ]]
local gate = redis.call('MGET', KEYS[1])[1] -- where it is of another type, this says nil
local seen = tonumber(string.match(gate or '', '^%d+'))
if seen and seen >= tonumber(ARGV[1]) then return { OUT.recovering, gate } end
local removed = 0
for i = 2, #ARGV, 2 do
  local key_type = redis.call('TYPE', ARGV[i]).ok
  if key_type ~= ARGV[i + 1] and key_type ~= 'none' then removed = removed + redis.call('UNLINK', ARGV[i]) end
end
return { OUT.OK, removed }
