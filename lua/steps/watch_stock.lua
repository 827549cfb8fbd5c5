-- Check the stock after a change that took so many free codes and uses of the book's total (took, uses); `low` is as
-- low_of returns it. Reads book, now and outbox. Locks don't count. For lua/redeem.lua and includes/stock.lua.

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
