-- A redemption rolled back: its event, then what it changes. Needs gate, outbox, events, counters (or tally), coupon,
-- locks, locking, place, orders, redemption.

-- e: the redemption, which stands; restore: whether its use is given back; entry: its order's, nil where the caller
-- writes it.
local function apply_rollback(c, book, e, at, restore, entry)
  local counted, set, score = place(c, book)
  local max = limits_of(c, book)
  prune_locks(c, max, tonumber(at), book)
  local back = restore and 1 or 0
  if max ~= 1 then redis.call('ZREM', W .. 's:' .. c.code, e.event) end
  if c.last == e.event then c.last = max ~= 1 and redis.call('ZRANGE', W .. 's:' .. c.code, -1, -1)[1] or nil end
  if entry then save_order(W .. 'o:' .. e.order_bucket, e.order, without_place(entry, e.event, restore)) end
  if count_user(e.user, e.user_bucket, book.number, -back, -1) == 0 then count(book.number, 'users', -1) end
  count(book.number, 'redemptions', -1)
  count(book.number, 'rolledBack', 1)
  if restore then
    count(book.number, 'taken', -1)
    if c.user and c.uses == max then
      -- @include coupon_counts
      count_assigned(c, book, '1')
    end
    c.uses = c.uses - 1
    -- @holds give_back c, book, e
  end
  if e.discount ~= '0' then
    -- @include discount_sum
    count_discount(book.number, '-' .. e.discount)
  end
  settle(c, book, counted, set, score)
end

-- Returns its event, nil if this epoch may not write. order: its order's entry, nil if the caller writes it; request:
-- the event's line `r`; entry: the key's or nil.
local function roll_back(e, c, book, now, restore, order, outbox, request, entry)
  -- @holds note_back c, e, restore, now
  local event = append(outbox, rolled_back_event(e, whole(now), restore), request, entry)
  if event then apply_rollback(c, book, e, now, restore, order) end
  return event
end
