--[[ repair: write some things as the record says them, where all of them are still as they were seen.
Called by service/engine/hot/inspection.py
KEYS  1 gate    string  epoch and state, read first
ARGV  for each thing (Write of service/engine/formats/coupon_state.py) how it is kept, its key and its member, what was
      seen and what it should be, each '-' for nothing or '=' and the text: h a hash's field, s a string, i one that
      lives so many ms (its member), z a score in a zset; and n a counter in a hash, to which the last is added,
      whatever it is now; and t, first, a key of the wrong type: seen is the type, and it is removed before the rest is
      written
Reply {OK, 1}, {OK, 0} where something has changed, or {outcome}
Event none
Cost  at most 1 command, and 2 for each of at most 1,000 things ]]
-- @include gate gate_refuses

-- Runs while the gate is full or behind, too. Where an opening calls it, OPEN is '<epoch> closed'.
local refusal = gate_refuses(redis.call('GET', KEYS[1]), true, true)
if refusal then return { refusal } end
local wrong = {} -- keys that hold what can't be theirs
for i = 1, #ARGV, 5 do
  local kind, key, member, seen = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if not wrong[key] then
    local stored
    if kind == 'h' then
      stored = redis.pcall('HGET', key, member)
    elseif kind == 'z' then
      stored = redis.pcall('ZSCORE', key, member)
    elseif kind == 'n' then
      stored = redis.pcall('HEXISTS', key, member)
    elseif kind == 't' then
      stored = redis.call('TYPE', key).ok
      wrong[key] = true
    else
      stored = redis.pcall('GET', key)
    end
    if type(stored) == 'table' then return { OUT.OK, 0 } end -- of the wrong type by now
    if kind ~= 'n' and (stored and '=' .. stored or '-') ~= seen then return { OUT.OK, 0 } end
  end
end
for i = 1, #ARGV, 5 do
  local kind, key, member, to = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 4]
  local text = string.sub(to, 2)
  if kind == 't' then
    redis.call('UNLINK', key)
  elseif kind == 'n' then
    redis.call('HINCRBY', key, member, text)
  elseif kind == 'h' then
    if to == '-' then
      redis.call('HDEL', key, member)
    else
      redis.call('HSET', key, member, text)
    end
  elseif kind == 'z' then
    if to == '-' then
      redis.call('ZREM', key, member)
    else
      redis.call('ZADD', key, text, member)
    end
  elseif to == '-' then
    redis.call('DEL', key)
  elseif kind == 'i' then
    redis.call('SET', key, text, 'PX', member)
  else
    redis.call('SET', key, text)
  end
end
return { OUT.OK, 1 }
