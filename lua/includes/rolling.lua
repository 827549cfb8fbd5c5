-- One redemption rolled back: the event, then what it changes. Nil where this epoch may not write.

local function roll_back(e, now, restore, outbox, request, entry)
  local book = read_book(e.book)
  local c = read_coupon(e.code, e.bucket, redis.call('GET', W .. 'c:' .. e.code))
  local list = e.order ~= '-' and places(redis.call('HGET', W .. 'o:' .. e.order_bucket, e.order)) or {}
  local event = append(outbox, 'B ' .. e.workspace .. ' ' .. e.book .. ' ' .. e.code .. ' ' .. e.user .. ' ' .. e.order
    .. ' ' .. e.id .. ' ' .. now .. ' ' .. (restore and 1 or 0) .. ' ' .. e.bucket .. ' ' .. e.order_bucket, request, entry)
  if not event then return nil end
  return apply_rollback(c, book, e, now, restore, list)
end
