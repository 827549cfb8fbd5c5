-- Find the code in the directory: its `entry`, the `number` of its book and the `text` of the book's settings. Returns if there
-- is no such code.

local entry = redis.call('HGET', KEYS[4], ARGV[2])
if not entry then return { OUT.coupon_not_found } end
local number = string.match(entry, '^%d+')
local text = redis.call('GET', W .. 'b:' .. number)
