-- The time on Redis's clock. Reads offset_ms (by which a test workspace's clock is moved: steps/workspace.lua).
-- Leaves now (ms). For includes/book.lua, includes/usual.lua and steps/enter.lua.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + offset_ms
