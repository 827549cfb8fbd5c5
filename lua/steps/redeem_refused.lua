-- The refusals of a redemption; returns if one applies.
-- Reads c, book, max, now, now_text (as text), order_entry (the order's places; nil or false for none), users (the
-- key of the user's bucket), token, currency (nil where none); as the arguments come: user, order, value, digits
-- (that the amounts need), items; of steps/workspace.lua: per_order, usual_currency, usual_digits; of steps/terms.lua:
-- book_currency, book_digits, discount_type, discount_terms, cap, least. Leaves its_currency, its_digits, own (the lock
-- that it is under), outcome (nil); of steps/judge.lua: spent, saved_e4. For lua/redeem.lua and includes/redeeming.lua.

local kind, amount, own = 'redeem', tonumber(value), nil
local its_currency = book_currency or usual_currency -- another one is refused
local its_digits = book_currency and book_digits or usual_digits
if not currency and tonumber(digits) > tonumber(its_digits) then
  return { OUT.invalid, its_currency .. '/' .. its_digits .. '/' .. value }
end
if token then
  -- @step lock_by_token
  if l and l.user == user and (l.order == '-' or l.order == order) then own = l end
else
  -- @step lock_of
  own = theirs
end
-- @step refuse
