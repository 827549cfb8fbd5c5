--[[ fill_pool: say of buckets of the directory which books have free codes in them, where everything was rebuilt.
KEYS  1 gate       string  epoch and state, read first
      2 workspace  string  its settings
ARGV  for each bucket its number
Reply {OK} or {outcome}
Event none
Cost  O(n) in the buckets, at most 500 of them, and in their codes ]]
-- @include gate unlogged free

if redis.call('GET', KEYS[1]) ~= OPEN then return { OUT.recovering } end
leave_unlogged()
for _, bucket in ipairs(ARGV) do
  for of, codes in pairs(free_codes(W .. 'd:' .. bucket)) do redis.call('HSET', W .. 'f:' .. of, bucket, codes) end
end
return { OUT.OK }
