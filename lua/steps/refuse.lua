-- Returns the first refusal of steps/judge.lua, if one applies.
-- Reads kind, c, book, max, own, user, token, currency, amount, order_entry, users, per_order, its_currency, its_digits,
-- items, discount_type, discount_terms, cap, least, now, now_text. Leaves outcome (nil); of steps/judge.lua: spent, saved_e4.
-- For lua/lock.lua and steps/redeem_refused.lua; lua/validate.lua has a `fail` of its own.

local outcome, figures
local function fail(refusal, its_figures) outcome, figures = refusal, its_figures return true end -- true: judge stops at the first
-- @step judge
if outcome == OUT.coupon_locked then
  -- @include retry_after
  return { outcome, retry_after(c, max, now) }
end
if outcome then return { outcome, figures } end
