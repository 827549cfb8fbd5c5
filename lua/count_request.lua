--[[ count_request: count a request that no other script decides, where its key's requests are limited.
Called by service/engine/deciding/counting.py; with limits it runs within lua/includes/limits.lua
KEYS  1 gate       string  epoch and state, read first
      2 workspace  string  its settings
ARGV  none
Reply {OK} or {outcome}
Event none
Cost  at most 1 command; 8 more of lua/includes/limits.lua, within which alone it runs ]]
-- @include gate gate_refuses
-- @limits

-- Runs while the gate is full or behind, too.
return { gate_refuses(redis.call('GET', KEYS[1]), true, true) or OUT.OK }
