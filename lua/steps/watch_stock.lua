-- Append a notice if a change that took free codes, or uses of the book's total, let the book run low or out. Locks
-- don't count. Reads book, now, outbox, took (free codes), uses (of the total), low (as low_of of includes/book.lua
-- returns it). For lua/redeem.lua and includes/stock.lua.

if took > 0 then
  local counters = W .. 'n:' .. book.number
  -- @step left_codes
  if left and (left <= 0 or low and left < low) then
    -- @include outbox crossing
    cross(outbox, book, now, 'codes', left, took, low)
  end
end
if uses > 0 and book.total then
  -- @include outbox crossing
  cross(outbox, book, now, 'uses', book.total - redis.call('HGET', W .. 'n:' .. book.number, 'taken'), uses, low)
end
