-- Returns the first refusal of steps/judge.lua, if one applies. Leaves `outcome`, nil.

local outcome
local function fail(refusal) outcome = refusal return true end
-- @step judge
if outcome == OUT.coupon_locked then
  -- @include retry_after
  return { outcome, retry_after(c, max, now) }
end
if outcome then return { outcome } end
