-- Discounts in integers of 10^-4 units, rounded half-even at the currency's digits. value_e4 < 10^15 and a percentage in
-- 10^-4 parts make a product past 2^53, so it is taken in two limbs.

local UNIT = { [0] = 10000, 1000, 100, 10, 1 } -- e4 by digits

-- whole + part/10^6, rounded to a multiple of unit.
local function round_half_even(amount, part, unit)
  local q = math.floor(amount / unit)
  local twice, full = ((amount - q * unit) * 1000000 + part) * 2, unit * 1000000
  if twice > full or (twice == full and q % 2 == 1) then q = q + 1 end
  return q * unit
end

local function discount_of(book, value, digits)
  if not book.kind then return 0 end
  local discount, part = book.value, 0
  if book.kind == 'percentage' then
    local high = math.floor(value / 1000000)
    local low = (value - high * 1000000) * book.value
    local carried = math.floor(low / 1000000)
    discount, part = high * book.value + carried, low - carried * 1000000
  end
  if book.cap and discount >= book.cap then discount, part = book.cap, 0 end
  -- Amounts are rounded too: without a currency of their own they may have more digits than the workspace's has now.
  discount = round_half_even(discount, part, UNIT[digits])
  if discount > value then discount = value end
  return discount
end
