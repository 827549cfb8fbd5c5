--[[ fence: close the gate for a new epoch and end every older one's writing.
Called by service/engine/hot/redis_server.py, in the worker alone
KEYS  1 gate    string  epoch and state, read first
      2 outbox  stream  the epoch's first entry
ARGV  1 epoch
Reply {OK, previous gate or ''} or {RECOVERING, gate} where the gate has this epoch or a later one
Event O
Cost  at most 3 commands ]]
local gate = redis.call('GET', KEYS[1])
local known_epoch = tonumber(string.match(gate or '', '^%d+'))
if known_epoch and known_epoch >= tonumber(ARGV[1]) then return { OUT.recovering, gate } end
redis.call('XADD', KEYS[2], ARGV[1] .. '-0', 'e', 'O')
redis.call('SET', KEYS[1], ARGV[1] .. ' closed')
return { OUT.OK, gate or '' }
