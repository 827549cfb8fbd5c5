-- How often the code may be redeemed, `max`; nil for without limit. Reads c and book. c.max (0: no limit), the code's
-- own or the one that it was first used under, stands though the book's has changed.

local max = book.per_code
if c.max then max = c.max > 0 and c.max or nil end
