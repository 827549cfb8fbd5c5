-- What an event changes: the one piece of code that assign, unassign, redeem and rollback, and the rebuilding of a lost
-- Redis, run.

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

-- Of a coupon that is somebody's, with no use spent. Its locks end with the assignment.
local function apply_unassign(c, book, at)
  local counted, set, score = place(c, book)
  drop_locks(c, limit_of(c, book), book, tonumber(at))
  let_go(c, book)
  local key, field = W .. 'u:' .. c.user, 'a' .. book.number
  if redis.call('HINCRBY', key, field, -1) == 0 then redis.call('HDEL', key, field, 'h' .. book.number) end
  c.user, c.assigned_at = nil, '-'
  settle(c, book, counted, set, score)
end

-- Add to what a user has spent of a book: taken (counts against the limit) and standing (was not rolled back). It is in the
-- user's bucket, '<taken>' where as many stand, else '<taken> <standing>'. Returns how many stand.
local function count_user(user, bucket, book_number, taken, standing)
  local key, field = W .. 'o:' .. bucket, book_number .. '/' .. user
  local was = redis.call('HGET', key, field)
  local was_taken, was_standing = string.match(type(was) == 'string' and was or '0', '^(%d+) ?(%d*)$')
  if was_standing == '' then was_standing = was_taken end
  taken, standing = was_taken + taken, was_standing + standing
  if taken == 0 then redis.call('HDEL', key, field)
  else redis.call('HSET', key, field, taken == standing and whole(taken) or whole(taken) .. ' ' .. whole(standing)) end
  return standing
end

-- e: event, user, user_bucket, order (or '-'), order_bucket, slot, discount (e4, text), at. `list` is the order's places.
local function apply_redeem(c, book, max, e, list, lock)
  local counted, set, score = place(c, book)
  if lock then drop_lock(c, max, lock, book) end
  prune_locks(c, max, tonumber(e.at), book)
  c.uses, c.max, c.last = c.uses + 1, max or 0, e.event
  if max ~= 1 then redis.call('ZADD', W .. 's:' .. c.code, e.at, e.event) end
  if e.order ~= '-' then
    list[#list + 1] = { event = e.event, slot = tonumber(e.slot), kept = false }
    redis.call('HSET', W .. 'o:' .. e.order_bucket, e.order, entry_of(list))
  end
  if count_user(e.user, e.user_bucket, book.number, 1, 1) == 1 then count(book.number, 'users', 1) end
  count(book.number, 'redemptions', 1)
  count(book.number, 'taken', 1)
  if e.discount ~= '0' then count(book.number, 'discount', e.discount) end
  if c.user and max and c.uses == max then let_go(c, book) end
  return settle(c, book, counted, set, score)
end

-- The latest of a code's standing redemptions: of those of the last millisecond the one with the highest event.
local function latest(code)
  local key, last, last_epoch, last_seq = W .. 's:' .. code, nil, -1, -1
  local found = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
  if not found[1] then return nil end
  for _, event in ipairs(redis.call('ZRANGEBYSCORE', key, found[2], found[2])) do
    local epoch, seq = string.match(event, '^(%d+)-(%d+)$')
    epoch, seq = tonumber(epoch), tonumber(seq)
    if epoch > last_epoch or (epoch == last_epoch and seq > last_seq) then
      last, last_epoch, last_seq = event, epoch, seq
    end
  end
  return last
end

-- e: as for apply_redeem, of a redemption that stands.
local function apply_rollback(c, book, e, at, restore, list)
  local counted, set, score = place(c, book)
  local max = limit_of(c, book)
  prune_locks(c, max, tonumber(at), book)
  local back = restore and 1 or 0
  if max ~= 1 then redis.call('ZREM', W .. 's:' .. c.code, e.event) end
  if c.last == e.event then c.last = max ~= 1 and latest(c.code) or nil end
  for i, p in ipairs(list) do
    if p.event == e.event then
      if restore then table.remove(list, i) else p.kept = true end
      break
    end
  end
  if e.order ~= '-' then redis.call('HSET', W .. 'o:' .. e.order_bucket, e.order, entry_of(list)) end
  if count_user(e.user, e.user_bucket, book.number, -back, -1) == 0 then count(book.number, 'users', -1) end
  count(book.number, 'redemptions', -1)
  count(book.number, 'rolledBack', 1)
  if restore then
    count(book.number, 'taken', -1)
    if c.user and max and c.uses == max then hold(c, book) end
    c.uses = c.uses - 1
  end
  if e.discount ~= '0' then count(book.number, 'discount', '-' .. e.discount) end
  settle(c, book, counted, set, score)
end
