-- steps/view.lua as a function.
local function view(c, book, now)
  -- @step limit
  -- @step view
  return coupon_view
end
