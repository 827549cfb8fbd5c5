--[[ read_prefixes: the lengths and beginnings of strings, to read only those that matter.
Called by service/server/in_redis/pseudonyms.py, in the worker alone
KEYS  1 gate  string  epoch and state, read first
ARGV  1 bytes, then the strings' keys
Reply {OK, length, beginning, length, beginning, …} (0 and "" where there is no string) or {outcome}
Event none
Cost  at most 1 command, and 2 for each of at most 200 keys ]]
-- @include gate gate_refuses

-- Runs while the gate is full or behind, too.
local refusal = gate_refuses(redis.call('GET', KEYS[1]), true, true)
if refusal then return { refusal } end
local reply = { OUT.OK }
for i = 2, #ARGV do
  local length = redis.pcall('STRLEN', ARGV[i])
  local is_string = type(length) == 'number'
  reply[#reply + 1] = is_string and length or 0
  reply[#reply + 1] = is_string and redis.call('GETRANGE', ARGV[i], 0, whole(ARGV[1] - 1)) or ''
end
return reply
