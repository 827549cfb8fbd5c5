-- A redemption that is allowed: its event, then what it changes. Needs gate, counters (or tally), coupon, place;
-- the event gate alone.

-- The event's text (includes/events.lua, service/engine/formats/events.py). ask: of `judge` (includes/asks.lua).
local function redeemed_event(c, book, max, ask, now)
  ask.discount, ask.slot = whole(ask.saved_e4), ask.order == '-' and '0' or '1'
  -- @holds note ask
  if ask.entry then
    -- @include orders
    ask.slot = whole(free_slot(places(ask.entry)))
  end
  return 'R '
    .. workspace_number()
    .. ' '
    .. book.number
    .. ' '
    .. c.code
    .. ' '
    .. ask.user
    .. ' '
    .. ask.order
    .. ' '
    .. ask.value
    .. ' '
    .. ask.its_currency
    .. ' '
    .. ask.its_digits
    .. ' '
    .. ask.discount
    .. ' '
    .. whole(now)
    .. ' '
    .. ask.slot
    .. ' '
    .. c.bucket
    .. ' '
    .. ask.order_bucket
    .. ' '
    .. whole(max or 0)
    .. ' '
    .. (ask.balance_after or '-')
    .. ' '
    .. (ask.counted_at or '-')
    .. ' '
    .. ask.user_bucket
end

-- What a user has spent of a book, in the user's bucket: '<taken>' (counts against the limit) where as many stand, else
-- '<taken> <standing>'. Returns both, as text.
local function read_user_counts(text)
  local taken, standing = string.match(text, '^(%d+) ?(%d*)$')
  return taken, standing ~= '' and standing or taken
end

-- Add to it. spent: the stored text, nil if it wasn't read. Returns how many stand.
local function count_user(user, user_bucket, number, taken, standing, spent)
  local key, field = W .. 'o:' .. user_bucket, number .. '/' .. user
  if spent == nil then spent = redis.call('HGET', key, field) end
  local was_taken, was_standing = read_user_counts(type(spent) == 'string' and spent or '0')
  taken, standing = was_taken + taken, was_standing + standing
  if taken == 0 then
    redis.call('HDEL', key, field)
  else
    redis.call('HSET', key, field, taken == standing and whole(taken) or whole(taken) .. ' ' .. whole(standing))
  end
  return standing
end

-- Apply it. event: its id; at: ms; ask: own (the lock that it is under), entry (its order's places), nil or false for
-- none, spent (nil if it wasn't read); as text user, user_bucket, order ('-' for none), order_bucket, slot, discount
-- (e4), counted_at (ms; nil or false for `at`). Returns how many free codes that took.
local function apply_redeem(c, book, max, ask, event, at)
  local own, order, number = ask.own, ask.order, book.number
  local counted, set, score = place(c, book)
  local mark -- goes with the lock, as the order's text is written anyway
  if own and max == 1 and order ~= '-' and own.order == order then
    own.is_unmarked, mark = true, mark_of(c)
  end
  if own or max ~= 1 or c.lock then
    -- @include locking
    if own then drop_lock(c, max, own, book) end
    prune_locks(c, max, at, book)
  end
  c.uses, c.max, c.last = c.uses + 1, max or 0, event
  if max ~= 1 then
    -- So that the one decided last stands at the end: by epoch, then by number. A score can't hold both, so it is of
    -- the epoch and of how many digits the number has: members of one score stand in the order of their texts.
    local epoch, seq = string.match(event, '^(%d+)-(%d+)$')
    redis.call('ZADD', W .. 's:' .. c.code, whole(epoch * 16 + #seq), event)
  end
  if order ~= '-' then
    local place_text = ask.slot == '1' and event or event .. ':' .. ask.slot
    save_order(W .. 'o:' .. ask.order_bucket, order, ask.entry and ask.entry .. ' ' .. place_text or place_text, mark)
  end
  if count_user(ask.user, ask.user_bucket, number, 1, 1, ask.spent) == 1 then count(number, 'users', '1') end
  count(number, 'redemptions', '1')
  count(number, 'taken', '1')
  if ask.discount ~= '0' then
    -- @include discount_sum
    count_discount(number, ask.discount)
  end
  -- @holds spend c, book, ask, at
  if c.user and c.uses == max then
    -- @include coupon_counts
    count_assigned(c, book, '-1')
  end
  return settle(c, book, counted, set, score)
end
