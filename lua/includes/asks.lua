-- What a lock, a redemption, a checkout or a validation asks: the table `ask`, which includes/judging.lua judges.
--
-- From the request; text, and nil for none but where another word stands here:
--   kind         'lock', 'redeem' (also a checkout) or 'validate'
--   user         user_bucket; users: the key of that bucket
--   order        '-' for none; order_bucket
--   entry        the order's places (includes/orders.lua), false for none; per_order: how many it may have
--   token        of a lock
--   value        e4, '-' for none; currency; items, '-' for none; digits: those that the amounts need
--   whose        'k' or 'u': who says the amounts, a key or a user's token
--   amount       number, e4: the most that it takes of a card
--   expected     number, e4: the final amount that the client expects
--   is_of_another_user  whether another user has the order's gift
--   reasons      a list, to which judging adds each refusal, instead of ending with the first
-- From the workspace: usual_currency and usual_digits, of an order that names no currency.
--
-- Judging adds:
--   own          the live lock that it is under
--   is_priced    whether it has, or needs, a price; is_held: whether this is what the lock holds
--   needs_amount whether a lock has to name one
--   its_currency its_digits: the order's
--   saved_e4     number: the discount, or what it takes of a card; 0 until it is known
--   left         number, e4: what it may take of a card
--   spent        what the user's bucket has of the book, nil if it wasn't read
--   refusal      the reply
-- A redemption adds text: discount, slot, and what its event says of holds, balance_after (of a card) and counted_at (ms);
-- nil for none..

-- The places of an order, by its text in Redis; false for none.
local function places_in(text) return text and string.match(text, '^[^=]+') or false end

-- ask: what the request says of these, '-' for none; completed here.
local function make_ask(ask)
  if ask.token == '-' then ask.token = nil end
  if ask.currency == '-' then ask.currency = nil end
  ask.saved_e4, ask.is_held = 0, false
  return ask
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
