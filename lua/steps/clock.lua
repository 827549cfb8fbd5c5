-- Milliseconds on Redis's clock, moved by a test workspace's offset: `now`.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + offset_ms
