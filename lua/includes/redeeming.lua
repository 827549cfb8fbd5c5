-- The steps of redeem as functions, for checkout, where there may be no redemption. For lua/checkout.lua. Steps read
-- local variables, so each function unpacks r, the request: c, book, max, now, per_order, usual_currency, usual_digits,
-- orders and users (keys); user, user_bucket, order, order_bucket, value, digits and items as the arguments come; token
-- and currency, nil where none. Needs gate, coupon, orders, facts, state.

-- The redemption that this one repeats (steps/repeated.lua); nil for none.
local function redeemed_before(r)
  r.order_entry = redis.call('HGET', r.orders, r.order)
  if not r.order_entry then return nil end
  local c, user, order_entry = r.c, r.user, r.order_entry
  -- @step repeated
  return before
end

-- The refusal's reply; nil if the redemption is allowed.
local function redeem_refused(r)
  local c, book, max, now, per_order, usual_currency = r.c, r.book, r.max, r.now, r.per_order, r.usual_currency
  local usual_digits, user, users, order, order_entry = r.usual_digits, r.user, r.users, r.order, r.order_entry
  local token, currency, value, digits, items, now_text = r.token, r.currency, r.value, r.digits, r.items, whole(now)
  local terms = book.terms
  -- @step terms
  -- @step redeem_refused
  r.own, r.saved_e4, r.its_currency, r.its_digits, r.spent = own, saved_e4, its_currency, its_digits, spent
end

-- The event's text; puts the discount and the slot into r.
local function redeemed_event(r)
  local c, book, max, now, its_currency, its_digits = r.c, r.book, r.max, r.now, r.its_currency, r.its_digits
  local order_entry, user, order, value, saved_e4 = r.order_entry, r.user, r.order, r.value, r.saved_e4
  local order_bucket, user_bucket, now_text = r.order_bucket, r.user_bucket, whole(now)
  -- @step redeemed_event
  r.discount, r.slot = discount, slot
  return decided
end

-- Apply the redemption. Returns how many free codes it took.
local function redeem(r, event)
  if r.c.uses == 0 and not r.own then redis.call('HSET', W .. 'n:' .. r.book.number, 'touched', '1') end
  r.event, r.at = event, r.now
  return apply_redeem(r.c, r.book, r.max, r, r.order_entry, r.own)
end
