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
-- A redemption adds text, nil for none: discount, slot, balance_after (of a card), counted_at (ms, of a lock in a book
-- with budgets).

-- Complete what a script made of a request: '-' is none, and entry an order's whole text. It has saved_e4 already:
-- with 17 fields Lua makes room for those that judging adds.
local function make_ask(ask)
  if ask.token == '-' then ask.token = nil end
  if ask.currency == '-' then ask.currency = nil end
  if ask.entry then ask.entry = string.match(ask.entry, '^[^=]+') end
  return ask
end
