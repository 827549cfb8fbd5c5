-- The coupon of `entry` (steps/find.lua) and its limit, c and max. Reads book (steps/book.lua) and got[4], the record.
-- KEYS 5 its record; ARGV 2 code 3 bucket.

-- MGET reads a key of the wrong type as none. Where a record may matter (the code has several uses, or its entry ends
-- in '!'), GET makes that an error.
if not got[4] and (book.per_code ~= 1 or string.byte(entry, -1) == 33) then redis.call('GET', KEYS[5]) end
local code, bucket = ARGV[2], ARGV[3]
text = got[4]
-- @step record
-- @step limit
