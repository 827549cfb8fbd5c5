-- The refusals of a redemption; returns if one applies. Reads what steps/judge.lua reads but for own, and all of
-- steps/terms.lua; order, value and digits (that the amounts need) as the arguments come; usual_digits. Leaves amount,
-- its_currency, its_digits, own, and `spent` of steps/judge.lua. For lua/redeem.lua and includes/redeeming.lua.

local kind, amount, own = 'redeem', tonumber(value), nil
local its_currency = book_currency or usual_currency -- another one is refused
local its_digits = book_currency and book_digits or usual_digits
if not currency and tonumber(digits) > tonumber(its_digits) then return { OUT.invalid } end
if token then
  -- @step lock_by_token
  if l and l.user == user and (l.order == '-' or l.order == order) then own = l end
else
  -- @step lock_of
  own = theirs
end
-- @step refuse
