-- The price of an order: its amounts, the discount that a book gives it, and what a lock holds of both. Needs gate.
-- A lock with a price has it as its last word, '<value>:<currency>:<digits>:<discount>:<whose>:<items>': amounts
-- in 10^-4 units; whose: 'k' where a key asked, 'u' where a user's token did; items: as
-- service/engine/operations/order_fields.py writes them, '-' for none. fast/usual_lock.lua writes it,
-- fast/usual_redeem.lua reads it: change all.
--
-- Amounts are in a table `ask` (includes/asks.lua).

local function read_hold(text)
  local value, currency, digits, discount, whose, items = string.match(text, '^(%d+):(%a+):(%d):(%d+):(%a):(.*)$')
  return { value = value, currency = currency, digits = digits, discount = discount, whose = whose, items = items }
end

local function hold_of(ask)
  return ask.value
    .. ':'
    .. ask.its_currency
    .. ':'
    .. ask.its_digits
    .. ':'
    .. whole(ask.saved_e4)
    .. ':'
    .. ask.whose
    .. ':'
    .. ask.items
end

-- Take from a redemption's '<expected final amount, e4, or ->/<k or u><amount or nothing>' what it expects.
local function read_asks(ask, asks)
  local expected, whose, amount = string.match(asks, '^(%S+)/(%a)(%d*)$')
  ask.expected, ask.whose, ask.amount = tonumber(expected), whose, tonumber(amount)
end

-- The same of a lock's price '<value_e4 or ->/<currency or ->/<digits>/<k or u><amount or nothing>/<items or ->'.
local function read_price(ask, price)
  local amount
  ask.value, ask.currency, ask.digits, ask.whose, amount, ask.items =
    string.match(price, '^([^/]+)/([^/]+)/(%d)/(%a)(%d*)/(.*)$')
  ask.amount = tonumber(amount)
end

-- What answers say of a hold: ' <value>:<currency>:<digits>:<discount>', then what its kind adds; nothing for none.
local function view_of_hold(hold, book)
  if not hold then return '' end
  local mark
  -- @holds added_to_view book -> mark
  return ' ' .. string.match(hold, '^[^:]+:[^:]+:[^:]+:[^:]+') .. (mark or '')
end

-- Take what a request leaves out from the lock that it is under. Returns whether its amounts are the lock's: then the
-- discount is, too. Those that a user's token claimed are no price for a key, which has to send its own.
local function take_hold(ask, hold, has_discount)
  if ask.value == '-' and hold.whose == 'u' and ask.whose == 'k' and has_discount then return false end
  if ask.value == '-' then ask.value = hold.value end
  if ask.items == '-' then ask.items = hold.items end
  if not ask.currency then
    ask.usual_currency, ask.usual_digits = hold.currency, hold.digits
  end
  if ask.amount and ask.amount ~= tonumber(hold.discount) then return false end -- of a card, it is what the lock holds
  if ask.value ~= hold.value or ask.items ~= hold.items or (ask.currency or hold.currency) ~= hold.currency then
    return false
  end
  ask.its_currency, ask.its_digits, ask.saved_e4 = hold.currency, hold.digits, tonumber(hold.discount)
  if hold.whose == 'k' then ask.whose = 'k' end
  return true
end

-- Why the amounts are no order's, as figures of `invalid`; nil where they may be one's. digits: the currency's. Items
-- may be worth the order's value at most; each unit's price may be rounded up.
local function misfit_of(ask, currency, digits)
  if not ask.currency and ask.digits - digits > 0 then return currency .. '/' .. digits .. '/' .. ask.value end
  if ask.value == '-' or ask.items == '-' then return nil end
  local worth, units = 0, 0
  WORK = (WORK or 0) + #ask.items / 500
  for count, price in string.gmatch(ask.items, ':(%d+):(%d+)') do
    worth, units = worth + count * price, units + count
  end
  if worth > ask.value + units * 10 ^ (4 - digits) then
    return currency .. '/' .. digits .. '/' .. ask.value .. '/' .. string.format('%.0f', worth)
  end
end
