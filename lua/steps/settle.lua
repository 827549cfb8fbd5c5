-- Write a changed coupon, and move it from the place that it had before the change (includes/place.lua).
-- Reads c, book, was_counted, was_set, was_score (that place). Leaves took (how many free codes that took: 1 or 0).
-- For lua/extend.lua, lua/lock.lua, includes/place.lua and steps/redeem.lua.

local counted, set, score = place(c, book)
local is_free = set == 'pool'
do
  -- @step save
end
if counted ~= was_counted then
  if was_counted ~= 'available' then count(book.number, was_counted, '-1') end
  if counted ~= 'available' then count(book.number, counted, '1') end
end
local took = was_counted == 'available' and counted ~= was_counted and 1 or 0
if was_set ~= set then
  if was_set == 'pool' and not fills_later then
    local key = W .. 'f:' .. book.number
    local left = redis.call('HINCRBY', key, c.bucket, '-1')
    if type(left) == 'number' and left < 1 then redis.call('HDEL', key, c.bucket) end -- else it is of the wrong type
  elseif was_set and was_set ~= 'pool' then
    redis.call('ZREM', W .. 'l:' .. book.number .. ':' .. was_set, c.bucket .. ' ' .. c.code)
  end
end
if set == was_set and score == was_score then -- it stays
elseif set == 'pool' then
  if not fills_later then redis.call('HINCRBY', W .. 'f:' .. book.number, c.bucket, '1') end
elseif set then
  redis.call('ZADD', W .. 'l:' .. book.number .. ':' .. set, score, c.bucket .. ' ' .. c.code)
end
