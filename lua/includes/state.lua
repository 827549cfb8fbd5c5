-- What an event changes: the one piece of code that assign, unassign, redeem and rollback, and the rebuilding of a lost
-- Redis, run.

-- gift: the order that it is a gift for {order, bucket}, or nil. Says how many free codes it took (as redeem does).
local function apply_assign(c, book, user, at, gift)
  local counted, set, score = place(c, book)
  local max = limit_of(c, book)
  prune_locks(c, max, tonumber(at))
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

-- Add to what a user has spent of a book: taken (counts against the limit) and standing (was not rolled back).
-- Returns how many stand.
local function count_user(user, book, taken, standing)
  local key, field = W .. 'u:' .. user, 'r' .. book.number
  local was_taken, was_standing = string.match(redis.call('HGET', key, field) or '0 0', '^(%S+) (%S+)$')
  standing = was_standing + standing
  redis.call('HSET', key, field, whole(was_taken + taken) .. ' ' .. whole(standing))
  return standing
end

-- e: id, user, order (or '-'), order_bucket, slot, discount (e4, text), at, record. `list` is the order's places.
local function apply_redeem(c, book, max, e, list, lock)
  local counted, set, score = place(c, book)
  if lock then drop_lock(c, max, lock, book) end
  prune_locks(c, max, tonumber(e.at))
  c.uses, c.max, c.last = c.uses + 1, max or 0, e.id
  if max ~= 1 then redis.call('ZADD', W .. 's:' .. c.code, e.at, e.id) end
  redis.call('SET', W .. 'r:' .. e.id, e.record)
  if e.order ~= '-' then
    list[#list + 1] = { id = e.id, code = c.code, user = e.user, slot = e.slot, state = 's' }
    redis.call('HSET', W .. 'o:' .. e.order_bucket, e.order, entry_of(list))
  end
  if count_user(e.user, book, 1, 1) == 1 then count(book.number, 'users', 1) end
  count(book.number, 'redemptions', 1)
  count(book.number, 'taken', 1)
  if e.discount ~= '0' then count(book.number, 'discount', e.discount) end
  if c.user and max and c.uses == max then let_go(c, book) end
  return settle(c, book, counted, set, score)
end

-- A redemption's record: '<event id> <rolled_back_at> <restored> R …' and the request's part.
local RECORD = '^(%S+) (%S+) (%S+) R (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (.*)$'

local function read_redemption(record)
  local event, rolled_at, restored, w, book, code, user, order, id, _, _, _, discount, _, slot, bucket, order_bucket =
    string.match(record, RECORD)
  return {
    event = event, rolled_at = given(rolled_at), restored = restored, workspace = w, book = book, code = code,
    user = user, order = order, id = id, discount = discount, slot = tonumber(slot), bucket = bucket,
    order_bucket = order_bucket, rest = string.match(record, '^%S+ %S+ %S+ (R .*)$'),
  }
end

-- Returns the redemption's new record.
local function apply_rollback(c, book, e, at, restore, list)
  local counted, set, score = place(c, book)
  local max = limit_of(c, book)
  prune_locks(c, max, tonumber(at))
  local back = restore and 1 or 0
  local record = e.event .. ' ' .. at .. ' ' .. back .. ' ' .. e.rest
  redis.call('SET', W .. 'r:' .. e.id, record)
  if max ~= 1 then redis.call('ZREM', W .. 's:' .. c.code, e.id) end
  if c.last == e.id then c.last = redis.call('ZRANGE', W .. 's:' .. c.code, -1, -1)[1] end
  for i, p in ipairs(list) do
    if p.id == e.id then
      if restore then table.remove(list, i) else p.state = 'k' end
      break
    end
  end
  if e.order ~= '-' then redis.call('HSET', W .. 'o:' .. e.order_bucket, e.order, entry_of(list)) end
  if count_user(e.user, book, -back, -1) == 0 then count(book.number, 'users', -1) end
  count(book.number, 'redemptions', -1)
  count(book.number, 'rolledBack', 1)
  if restore then
    count(book.number, 'taken', -1)
    if c.user and max and c.uses == max then hold(c, book) end
    c.uses = c.uses - 1
  end
  if e.discount ~= '0' then count(book.number, 'discount', '-' .. e.discount) end
  settle(c, book, counted, set, score)
  return record
end
