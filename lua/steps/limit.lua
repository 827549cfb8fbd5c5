-- How often the code may be redeemed, `max`; nil for without limit. Reads c and book.

local max = book.per_code
if c.max then max = c.max > 0 and c.max or nil end
