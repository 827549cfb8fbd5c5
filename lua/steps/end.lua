-- When the code's window ends: the earlier of its own end and its book's. Reads c, book. Leaves ends_at (nil for
-- never). For lua/extend.lua, lua/lock.lua, steps/judge.lua and steps/view.lua.

local ends_at = c.expires_at or book.till
if c.expires_at and book.till then ends_at = math.min(c.expires_at, book.till) end
