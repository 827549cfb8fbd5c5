-- A book's sum of discounts in 10^-4 units, which may pass 2^63: the counters `discount` and, in units of 10^9,
-- `discountHigh`. In Python: service/engine/formats/discount_sum.py; lua/fast/discount_parts.lua repeats it. Needs counters
-- (or tally).

-- Add an amount, or take it off again if it is negative. e4: as text.
local function count_discount(number, e4)
  if #e4 < 10 then return count(number, 'discount', e4) end -- nearly always: below 10^9
  local low = math.fmod(e4, 1e9)
  if low ~= 0 then count(number, 'discount', whole(low)) end
  if e4 - low ~= 0 then count(number, 'discountHigh', whole((e4 - low) / 1e9)) end
end
