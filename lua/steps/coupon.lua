-- The coupon of `entry` (steps/find.lua) and its limit, c and max. Reads book (steps/book.lua) and got[4], the record.
-- KEYS 5 its record; ARGV 2 code 3 bucket.

-- To MGET a record of the wrong type is none; GET fails where the entry, or the book's limit, lets there be one.
if not got[4] and (book.per_code ~= 1 or string.byte(entry, -1) == 33) then redis.call('GET', KEYS[5]) end
local code, bucket = ARGV[2], ARGV[3]
text = got[4]
-- @step record
-- @step limit
