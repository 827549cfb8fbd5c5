-- The effects of events, for assign, unassign, redeem, rollback and recovery. Needs gate, coupon, locks, counts (or
-- tally), place, holding, orders.

-- gift: the order that it is a gift for {order, bucket}, or nil. Says how many free codes it took (as redeem does).
local function apply_assign(c, book, user, at, gift)
  local counted, set, score = place(c, book)
  local max = limit_of(c, book)
  prune_locks(c, max, tonumber(at), book)
  c.user, c.assigned_at = user, at
  redis.call('HINCRBY', W .. 'u:' .. user, 'a' .. book.number, 1)
  if not (max and c.uses >= max) then hold(c, book) end
  if gift then
    redis.call('HSET', W .. 'g:' .. gift.bucket, gift.order, c.code .. ' ' .. c.bucket .. ' ' .. user .. ' ' .. at)
  end
  return settle(c, book, counted, set, score)
end

-- c: an assigned coupon without spent uses. Its locks end with the assignment.
local function apply_unassign(c, book, at)
  local counted, set, score = place(c, book)
  drop_locks(c, limit_of(c, book), book, tonumber(at))
  let_go(c, book)
  local key, field = W .. 'u:' .. c.user, 'a' .. book.number
  if redis.call('HINCRBY', key, field, -1) == 0 then redis.call('HDEL', key, field) end
  c.user, c.assigned_at = nil, '-'
  settle(c, book, counted, set, score)
end

-- What a user has spent of a book, in the user's bucket: '<taken>' (counts against the limit) where as many stand, else
-- '<taken> <standing>'. Returns both, as text.
local function read_user_counts(text)
  local taken, standing = string.match(text, '^(%d+) ?(%d*)$')
  return taken, standing ~= '' and standing or taken
end

-- Add to it. Returns how many stand.
local function count_user(user, user_bucket, number, taken, standing)
  local spent = nil
  -- @step count_user
  return stand
end

-- e: event, user, user_bucket, order (or '-'), order_bucket, slot (text), discount (e4, text), at. order_entry: the
-- order's. Returns how many free codes it took.
local function apply_redeem(c, book, max, e, order_entry, own)
  local event, user, user_bucket, order, order_bucket = e.event, e.user, e.user_bucket, e.order, e.order_bucket
  local slot, discount, at, number, spent = e.slot, e.discount, tonumber(e.at), book.number, nil
  -- @step redeem
  return took
end

-- e: as for apply_redeem, of a redemption that stands. entry: the order's, nil where the caller writes it.
local function apply_rollback(c, book, e, at, restore, entry)
  local counted, set, score = place(c, book)
  local max = limit_of(c, book)
  prune_locks(c, max, tonumber(at), book, not entry) -- an order may have a hundred coupons
  local back = restore and 1 or 0
  if max ~= 1 then redis.call('ZREM', W .. 's:' .. c.code, e.event) end
  if c.last == e.event then c.last = max ~= 1 and redis.call('ZRANGE', W .. 's:' .. c.code, -1, -1)[1] or nil end
  if entry then save_order(W .. 'o:' .. e.order_bucket, e.order, without_place(entry, e.event, restore)) end
  if count_user(e.user, e.user_bucket, book.number, -back, -1) == 0 then count(book.number, 'users', -1) end
  count(book.number, 'redemptions', -1)
  count(book.number, 'rolledBack', 1)
  if restore then
    count(book.number, 'taken', -1)
    if c.user and c.uses == max then hold(c, book) end
    c.uses = c.uses - 1
  end
  if e.discount ~= '0' then count(book.number, 'discount', '-' .. e.discount) end
  settle(c, book, counted, set, score)
end
