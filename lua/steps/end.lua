-- When the code's window ends, `ends_at`: the earlier of its own and its book's end; nil for never. Reads c and book.

local ends_at = c.expires_at or book.till
if c.expires_at and book.till then ends_at = math.min(c.expires_at, book.till) end
