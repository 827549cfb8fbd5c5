-- Sums of amounts in 10^-4 units, which may pass 2^63: two counters, `<name>` and, in units of 10^9, `<name>High`. In
-- Python: service/engine/formats/discount_sum.py; lua/fast/discount_parts.lua repeats it for a book's `discount`.

-- Add an amount, or take it off again if it is negative. add: a function of a counter's name and what to add; e4: as
-- text.
local function add_amount(add, name, e4)
  if #e4 < 10 then return add(name, e4) end -- nearly always: below 10^9
  local low = math.fmod(e4, 1e9)
  if low ~= 0 then add(name, whole(low)) end
  if e4 - low ~= 0 then add(name .. 'High', whole((e4 - low) / 1e9)) end
end

-- The same, to a book's sum of discounts. Needs gate, counters (or tally).
local function count_discount(number, e4)
  add_amount(function(name, by) count(number, name, by) end, 'discount', e4)
end
