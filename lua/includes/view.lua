-- steps/view.lua as a function. Needs gate, lacking.
local function view(c, book, now)
  -- @step limit
  -- @step view
  return coupon_view
end
