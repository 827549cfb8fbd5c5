-- Milliseconds on Redis's clock, moved by a test workspace's offset_ms (steps/workspace.lua): `now`.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + offset_ms
