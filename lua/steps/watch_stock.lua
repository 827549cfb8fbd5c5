-- Check the stock after a change that took so many free codes and uses of the book's total (took, uses); `low` is as low_of
-- returns it. Locks don't count.

if took > 0 then
  local n = redis.call('HMGET', W .. 'n:' .. book.number, 'codes', 'assigned', 'redeemed', 'exhausted', 'inactive')
  if not n.err then -- of the wrong type
    local left = (n[1] or 0) - (n[2] or 0) - (n[3] or 0) - (n[4] or 0) - (n[5] or 0)
    if left <= 0 or low and left < low then
      -- @include outbox crossing
      cross(outbox, book, now, 'codes', left, took, low)
    end
  end
end
if uses > 0 and book.total then
  -- @include outbox crossing
  cross(outbox, book, now, 'uses', book.total - redis.call('HGET', W .. 'n:' .. book.number, 'taken'), uses, low)
end
