-- Discounts by tiers and by free units, for steps/discount.lua. service/engine/formats/stored_settings.py writes the terms,
-- service/engine/operations/order_fields.py the items.

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
-- first, units its sum in the first of its lines and 0 in the others. An inexact sum is past 2^53: above every value.
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
