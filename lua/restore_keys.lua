--[[ restore_keys: bring recorded idempotency keys back to a Redis that is being mended.
KEYS  1 gate  string  epoch and state, read first
ARGV  for each: the entry's key, the entry, its remaining life in ms
Reply {OK} or {outcome}
Event none
Cost  at most 1 command, and 1 for each of at most 500 entries ]]
-- @include gate

if redis.call('GET', KEYS[1]) ~= OPEN then return { OUT.recovering } end
for i = 1, #ARGV, 3 do redis.call('SET', ARGV[i], ARGV[i + 1], 'PX', ARGV[i + 2]) end
return { OUT.OK }
