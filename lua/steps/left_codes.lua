-- How many of the book's codes are neither assigned, used up nor inactive; locked and expired ones count.
-- Reads counters (the key of the book's counters). Leaves left (false where they can't be read). For lua/redeem.lua,
-- includes/usual.lua and steps/watch_stock.lua; lua/lock.lua and lua/book_stats.lua read the same fields.

local n = redis.pcall('HMGET', counters, 'codes', 'assigned', 'redeemed', 'exhausted', 'inactive')
local left = not n.err and (n[1] or 0) - (n[2] or 0) - (n[3] or 0) - (n[4] or 0) - (n[5] or 0)
