-- Apply a redemption. Reads c, book, number (the book's), max, own (the lock that it is under; nil for none), at
-- (ms), order_entry (the order's places; nil or false for none), spent (nil if it wasn't read); as text: event, user,
-- user_bucket, order ('-' for none), order_bucket, slot, discount (e4). Leaves took (how many free codes that took).
-- For lua/redeem.lua and includes/state.lua; steps/usual_redeem.lua is its short form.

local was_counted, was_set, was_score = place(c, book)
if max ~= 1 or c.lock and not own then
  -- @include locks
  if own then drop_lock(c, max, own, book) end
  prune_locks(c, max, at, book)
elseif own then
  local l = own
  -- @step drop_lock
end
c.uses, c.max, c.last = c.uses + 1, max or 0, event
if max ~= 1 then
  -- So that the one decided last stands at the end: by epoch, then by number. A score can't hold both, so it is of the epoch
  -- and of how many digits the number has: members of one score stand in the order of their texts.
  local epoch, seq = string.match(event, '^(%d+)-(%d+)$')
  redis.call('ZADD', W .. 's:' .. c.code, whole(epoch * 16 + #seq), event)
end
if order ~= '-' then
  local place_text = slot == '1' and event or event .. ':' .. slot
  redis.call('HSET', W .. 'o:' .. order_bucket, order, order_entry and order_entry .. ' ' .. place_text or place_text)
end
local taken, standing = 1, 1
-- @step count_user
if stand == 1 then count(book.number, 'users', '1') end
count(book.number, 'redemptions', '1')
count(book.number, 'taken', '1')
if discount ~= '0' then count(book.number, 'discount', discount) end
if c.user and c.uses == max then
  -- @include holding
  let_go(c, book)
end
-- @step settle
