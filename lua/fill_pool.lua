--[[ fill_pool: say of buckets of the directory which books have free codes in them, where everything was rebuilt.
KEYS  1 gate  string  epoch and state, read first
ARGV  the buckets' keys
Reply {OK} or {outcome}
Event none
Cost  O(n) in the buckets, at most 500 of them, and in their codes ]]
-- @include gate unlogged free

if redis.call('GET', KEYS[1]) ~= OPEN then return { OUT.recovering } end
leave_unlogged()
for _, key in ipairs(ARGV) do
  local workspace, bucket = string.match(key, '^(.*:)d:(%d+)$')
  for of, codes in pairs(free_codes(key)) do redis.call('HSET', workspace .. 'f:' .. of, bucket, codes) end
end
return { OUT.OK }
