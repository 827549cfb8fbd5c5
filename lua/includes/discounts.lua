-- What a book's discount takes off an amount, in integers of 10^-4 units, rounded half-even at `digits`. kind and
-- terms: the discount's; cap: the most it takes, nil for none; items: the order's. amount < 10^15 and a percentage
-- in 10^-4 parts make a product past 2^53, so it is taken in two limbs. service/engine/formats/stored_settings.py
-- writes the terms, service/engine/operations/order_fields.py the items.
local function discount_of(kind, terms, cap, amount, items, digits)
  local taken, part = 0, 0 -- part: the 10^-6 parts
  if kind == 'tiered' then -- the last tier that the amount reaches; terms: 'from:kind:terms,…', ascending
    local tiers = terms
    for from, its_kind, its_terms in string.gmatch(tiers, '(%d+):(%a+):(%d+)') do
      if tonumber(from) > amount then break end
      kind, terms = its_kind, its_terms
    end
  end
  if kind == 'percentage' then
    local percentage, low = tonumber(terms), amount % 1000000
    local product = low * percentage
    part = product % 1000000
    taken = (amount - low) / 1000000 * percentage + (product - part) / 1000000
  elseif kind == 'fixed' then
    taken = tonumber(terms)
  elseif kind == 'buyXGetY' then
    -- What is free of the items, the amount at most. terms: 'buy:get'; items: 'units:count:price,…', a sku's cheapest
    -- first, units its sum in the first of its lines and 0 in the others. An inexact sum is past 2^53: above every
    -- amount.
    local buy, get = string.match(terms, '^(%d+):(%d+)$')
    local each, free = buy + get, 0
    WORK = (WORK or 0) + #items / 250
    for units, count, price in string.gmatch(items, '(%d+):(%d+):(%d+)') do
      if units ~= '0' then free = math.floor(units / each) * get end
      local of_line = math.min(free, tonumber(count))
      free, taken = free - of_line, taken + of_line * price
    end
    taken = math.min(taken, amount)
  end
  if cap and taken >= cap then
    taken, part = cap, 0
  end
  -- Amounts are rounded too: without a currency of their own they may have more digits than the workspace's has now.
  local unit = 10 ^ (4 - digits)
  local rest = taken % unit
  local twice, full = (rest * 1000000 + part) * 2, unit * 1000000
  taken = taken - rest
  if twice > full or twice == full and taken / unit % 2 == 1 then taken = taken + unit end
  return taken > amount and amount or taken
end
