-- Find the code in the directory. Returns if there is no such code.
-- KEYS 4 bucket; ARGV 2 code. Leaves entry (the directory's), number (its book's), text (the book's
-- settings).

local entry = redis.call('HGET', KEYS[4], ARGV[2])
if not entry then return { OUT.coupon_not_found } end
local number = string.match(entry, '^%d+')
local text = redis.call('GET', W .. 'b:' .. number)
