-- The coupon of an entry of the directory, and how often it may be redeemed.
-- Reads entry (steps/find.lua), book, got (its fourth is the record). KEYS 5 the record; ARGV 2 code 3 bucket. Leaves
-- c (includes/coupon.lua), max (steps/limit.lua), text (now the record).

-- MGET reads a key of the wrong type as none. Where a record may matter (the code has several uses, or its entry ends
-- in '!'), GET makes that an error.
if not got[4] and (book.per_code ~= 1 or string.byte(entry, -1) == 33) then redis.call('GET', KEYS[5]) end
local code, bucket = ARGV[2], ARGV[3]
text = got[4]
-- @step record
-- @step limit
