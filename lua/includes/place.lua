-- A coupon's place: the counter of its book that counts it, and the set that has it. Both follow from its record and its
-- stored locks, so a change compares the place before with the place after, and moves the coupon.

-- counted ('available' is what remains), set (pool, x, u, a, p, o or nil), score.
local function place(c, book)
  local max = limit_of(c, book)
  if max and c.uses >= max then return max == 1 and 'redeemed' or 'exhausted' end
  if c.off then return 'inactive' end
  local counted = c.user and 'assigned' or 'available'
  local n, first, last = stored_locks(c, max)
  if n == 0 then
    if c.user then return counted end
    if c.expires_at then return counted, 'x', c.expires_at end
    return counted, 'pool'
  end
  if max and c.uses + n >= max then return counted, c.user and 'a' or 'u', first end
  return counted, c.user and 'o' or 'p', last
end

-- The pool of free codes is in the directory: entries of other codes have a '!'. `f:<book>` counts a book's free codes by
-- bucket. During a rebuild fill_pool writes it at the end, which saves a quarter of Redis's time.
local fills_later = false

local function enter_pool(book_number, bucket)
  if not fills_later then redis.call('HINCRBY', W .. 'f:' .. book_number, bucket, 1) end
end

local function leave_pool(book_number, bucket)
  if fills_later then return end
  local key = W .. 'f:' .. book_number
  local left = redis.call('HINCRBY', key, bucket, -1)
  if type(left) == 'number' and left < 1 then redis.call('HDEL', key, bucket) end -- else it is of the wrong type
end

-- Write the coupon and move it from its old place. Returns how many free codes that took: 1 or 0.
local function settle(c, book, was_counted, was_set, was_score)
  local counted, set, score = place(c, book)
  save_coupon(c, book.number, set == 'pool')
  if counted ~= was_counted then
    if was_counted ~= 'available' then count(book.number, was_counted, -1) end
    if counted ~= 'available' then count(book.number, counted, 1) end
  end
  local took = was_counted == 'available' and counted ~= was_counted and 1 or 0
  if set == was_set and score == was_score then return took end
  if was_set ~= set then
    if was_set == 'pool' then leave_pool(book.number, c.bucket)
    elseif was_set then redis.call('ZREM', W .. 'l:' .. book.number .. ':' .. was_set, c.bucket .. ' ' .. c.code) end
  end
  if set == 'pool' then enter_pool(book.number, c.bucket)
  elseif set then redis.call('ZADD', W .. 'l:' .. book.number .. ':' .. set, whole(score), c.bucket .. ' ' .. c.code) end
  return took
end
