-- How often the code may be redeemed. c.max (0: no limit), the code's own or the one that it was first used under,
-- stands though the book's has changed. Reads c, book. Leaves max (nil for without limit).
-- For includes/coupon.lua, includes/place.lua, includes/view.lua and steps/coupon.lua.

local max = book.per_code
if c.max then max = c.max > 0 and c.max or nil end
