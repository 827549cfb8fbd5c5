-- The parts of a discount for a book's two counters, as includes/discount_sum.lua. Reads saved_e4. Leaves low_part,
-- high_part. For fast/redeem.lua and fast/usual.lua.

local low_part = saved_e4 % 1e9
local high_part = (saved_e4 - low_part) / 1e9
