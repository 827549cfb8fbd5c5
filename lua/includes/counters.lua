-- A book's counters, the hash `n:<book>`. Needs gate. lua/apply_events.lua has another `count` (includes/tally.lua).

-- Add to a counter.
local function count(number, name, by) redis.call('HINCRBY', W .. 'n:' .. number, name, by) end

-- How many of the book's codes are neither assigned, used up nor inactive; locked and expired ones count. counters: the
-- key; false where they can't be read. lua/lock.lua and lua/book_stats.lua read the same fields.
local function free_left(counters)
  local n = redis.pcall('HMGET', counters, 'codes', 'assigned', 'redeemed', 'exhausted', 'inactive')
  return not n.err and (n[1] or 0) - (n[2] or 0) - (n[3] or 0) - (n[4] or 0) - (n[5] or 0)
end

-- Append a notice if a change that took free codes, or uses of the total, let the book run low or out. Locks don't
-- count. Needs outbox.
local function watch_stock(outbox, book, now, took, uses)
  local left = took > 0 and free_left(W .. 'n:' .. book.number)
  if left and (left <= 0 or book.low and left < book.low) then
    -- @include crossing
    cross(outbox, book.number, now, 'codes', left, took, book.low)
  end
  if uses > 0 and book.total then
    left = book.total - redis.call('HGET', W .. 'n:' .. book.number, 'taken')
    -- @include crossing
    cross(outbox, book.number, now, 'uses', left, uses, book.low)
  end
end
