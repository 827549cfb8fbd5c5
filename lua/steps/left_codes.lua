-- How many free codes are left, by the book's counters (their key): `left`; false where they can't be read.

local n = redis.pcall('HMGET', counters, 'codes', 'assigned', 'redeemed', 'exhausted', 'inactive')
local left = not n.err and (n[1] or 0) - (n[2] or 0) - (n[3] or 0) - (n[4] or 0) - (n[5] or 0)
