--[[ fill_pool: say of buckets of the directory which books have free codes in them, where everything was rebuilt.
KEYS  1 gate  string  epoch and state, read first
ARGV  the buckets' keys
Reply {OK} or {outcome}
Event none
Cost  O(n) in the buckets, at most 500 of them, and in their codes ]]
-- @include gate unlogged

if redis.call('GET', KEYS[1]) ~= OPEN then return { OUT.recovering } end
leave_unlogged()
for _, key in ipairs(ARGV) do
  local workspace, bucket = string.match(key, '^(.*:)d:(%d+)$')
  local told = {}
  for _, of in ipairs(redis.call('HVALS', key)) do
    if not told[of] and not string.find(of, '!', 1, true) then
      told[of] = true
      redis.call('SADD', workspace .. 'f:' .. of, bucket)
    end
  end
end
return { OUT.OK }
