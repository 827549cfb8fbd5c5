-- The discount of an amount, in integers of 10^-4 units, rounded half-even at its_digits. Reads discount_type (not
-- nil), discount_terms, cap (all three of steps/terms.lua), amount, items, its_digits. Leaves discount_e4.
-- For steps/judge.lua and steps/usual_redeem.lua. amount < 10^15 and a percentage in 10^-4
-- parts make a product past 2^53, so it is taken in two limbs. service/engine/formats/stored_settings.py writes the terms.

local discount_e4 = 0
local type_of, terms, part = discount_type, discount_terms, 0 -- part: the 10^-6 parts
if type_of == 'tiered' then
  -- @include money
  type_of, terms = tier_of(terms, amount)
end
if type_of == 'percentage' then
  local percentage, low = tonumber(terms), amount % 1000000
  local product = low * percentage
  part = product % 1000000
  discount_e4 = (amount - low) / 1000000 * percentage + (product - part) / 1000000
elseif type_of == 'fixed' then
  discount_e4 = tonumber(terms)
elseif type_of == 'buyXGetY' then
  -- @include money
  discount_e4 = free_of(terms, items, amount)
end
if cap and discount_e4 >= cap then discount_e4, part = cap, 0 end
-- Amounts are rounded too: without a currency of their own they may have more digits than the workspace's has now.
local unit = 10 ^ (4 - its_digits)
local rest = discount_e4 % unit
local twice, full = (rest * 1000000 + part) * 2, unit * 1000000
discount_e4 = discount_e4 - rest
if twice > full or twice == full and discount_e4 / unit % 2 == 1 then discount_e4 = discount_e4 + unit end
if discount_e4 > amount then discount_e4 = amount end
