-- The coupon of an entry of the directory, and how often it may be redeemed.
-- Reads entry, got (steps/find.lua), book. KEYS 5 the record; ARGV 2 code 3 bucket. Leaves c (includes/coupon.lua), max
-- (steps/limit.lua), text (now the record).

local code, bucket = ARGV[2], ARGV[3]
text = got[4] or has_record(entry) and redis.call('GET', KEYS[5])
-- @step record
-- @step limit
