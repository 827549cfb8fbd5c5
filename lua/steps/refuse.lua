-- Returns the first refusal of steps/judge.lua, if one applies.
-- Reads kind, c, book, max, own, user, token, currency, amount, order_entry, users, per_order, usual_currency,
-- discount_type, book_currency, least, now, now_text. Leaves outcome (nil), spent (steps/judge.lua).
-- For lua/lock.lua and steps/redeem_refused.lua; lua/validate.lua has a `fail` of its own.

local outcome
local function fail(refusal) outcome = refusal return true end -- true: judge stops at the first
-- @step judge
if outcome == OUT.coupon_locked then
  -- @include retry_after
  return { outcome, retry_after(c, max, now) }
end
if outcome then return { outcome } end
