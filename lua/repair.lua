--[[ repair: write some things as the record says them, where all of them are still as they were seen. Run by reconciling
     alone.
KEYS  1 gate    string  epoch and state, read first
ARGV  for each thing how it is kept, its key and its member, what was seen and what it should be, each '-' for nothing or '='
      and the text: h a hash's field, s a string, i one that lives so many ms (its member), z a score in a zset; and n a
      counter in a hash, to which the last is added, whatever it is now
Reply {OK, 1}, {OK, 0} where something has changed, or {outcome}
Event none
Cost  at most 1 command, and 2 for each of at most 100 things ]]
-- @include gate

local no = gate_refuses(redis.call('GET', KEYS[1]), true, true)
if no then return { no } end
for i = 1, #ARGV, 5 do
  local kind, key, member, seen = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if kind ~= 'n' then
    local stored
    if kind == 'h' then stored = redis.call('HGET', key, member)
    elseif kind == 'z' then stored = redis.call('ZSCORE', key, member)
    else stored = redis.call('GET', key) end
    if (stored and '=' .. stored or '-') ~= seen then return { OUT.OK, 0 } end
  end
end
for i = 1, #ARGV, 5 do
  local kind, key, member, to = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 4]
  local text = string.sub(to, 2)
  if kind == 'n' then redis.call('HINCRBY', key, member, text)
  elseif kind == 'h' then
    if to == '-' then redis.call('HDEL', key, member) else redis.call('HSET', key, member, text) end
  elseif kind == 'z' then
    if to == '-' then redis.call('ZREM', key, member) else redis.call('ZADD', key, text, member) end
  elseif to == '-' then redis.call('DEL', key)
  elseif kind == 'i' then redis.call('SET', key, text, 'PX', member)
  else redis.call('SET', key, text) end
end
return { OUT.OK, 1 }
