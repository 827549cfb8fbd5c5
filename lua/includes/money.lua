-- Discounts in integers of 10^-4 units, rounded half-even at the currency's digits. value_e4 < 10^15 and a percentage in
-- 10^-4 parts make a product past 2^53, so it is taken in two limbs.

local UNIT = { ['0'] = 10000, ['1'] = 1000, ['2'] = 100, ['3'] = 10, ['4'] = 1 } -- e4 by digits

-- whole + part/10^6, rounded to a multiple of unit.
local function round_half_even(amount, part, unit)
  local q = math.floor(amount / unit)
  local twice, full = ((amount - q * unit) * 1000000 + part) * 2, unit * 1000000
  if twice > full or (twice == full and q % 2 == 1) then q = q + 1 end
  return q * unit
end

-- A percentage of value: whole, and 10^-6 parts.
local function share_of(value, percentage)
  local high = math.floor(value / 1000000)
  local low = (value - high * 1000000) * percentage
  local carried = math.floor(low / 1000000)
  return high * percentage + carried, low - carried * 1000000
end

-- The kind and terms of the last tier that value reaches. tiers: 'from:kind:terms,…', ascending.
local function tier_of(tiers, value)
  local kind, terms
  for from, of, its in string.gmatch(tiers, '(%d+):(%a+):(%d+)') do
    if tonumber(from) > value then break end
    kind, terms = of, its
  end
  return kind, terms
end

-- What is free of the order's items, value at most. terms: 'buy:get'; items: 'units:count:price,…', a sku's cheapest
-- first, units its sum in the first of its lines and 0 in the others. A sum that is not exact is past 2^53, so above every
-- value.
local function free_of(terms, items, value)
  local buy, get = string.match(terms, '^(%d+):(%d+)$')
  local each, free, sum = buy + get, 0, 0
  for units, count, price in string.gmatch(items, '(%d+):(%d+):(%d+)') do
    if units ~= '0' then free = math.floor(units / each) * get end
    local given = math.min(free, tonumber(count))
    free, sum = free - given, sum + given * price
  end
  return math.min(sum, value)
end

local function discount_of(book, value, digits, items)
  if not book.kind then return 0 end
  local kind, terms = book.kind, book.value
  if kind == 'tiered' then kind, terms = tier_of(terms, value) end
  local amount, part = 0, 0
  if kind == 'percentage' then amount, part = share_of(value, tonumber(terms))
  elseif kind == 'fixed' then amount = tonumber(terms)
  elseif kind == 'buyXGetY' then amount = free_of(terms, items, value) end
  if book.cap and amount >= book.cap then amount, part = book.cap, 0 end
  -- Amounts are rounded too: without a currency of their own they may have more digits than the workspace's has now.
  amount = round_half_even(amount, part, UNIT[digits])
  if amount > value then amount = value end
  return amount
end
