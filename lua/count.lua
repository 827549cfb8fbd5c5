--[[ count: count a request that no other script decides, where its key's requests are limited.
KEYS  1 gate       string  epoch and state, read first
      2 workspace  string  its settings
ARGV  none
Reply {OK} or {outcome}
Event none
Cost  O(1), 1 command; it runs within lua/includes/limits.lua alone ]]
-- @include gate

return { gate_refuses(redis.call('GET', KEYS[1]), true, true) or OUT.OK }
