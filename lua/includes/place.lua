-- A coupon's place: the counter of its book that counts it, and the set that has it. Both follow from its record and
-- its stored locks, so a change compares the place before with that after, and moves the coupon. Comparisons expect the
-- same: `free` and `waits_for_end` of service/engine/formats/coupon_state.py. Needs gate, coupon, counts (or tally).

-- Returns counted ('available' is what remains), set (pool, x, u, a, p, o or nil), score (as text).
local function place(c, book)
  -- @step limit
  if max and c.uses >= max then return max == 1 and 'redeemed' or 'exhausted' end
  if c.off then return 'inactive' end
  local counted = c.user and 'assigned' or 'available'
  local n, first, last = 0, nil, nil -- the stored locks, including expired ones: their number, first and last deadline
  if max ~= 1 then
    local key = W .. 'kd:' .. c.code
    n = redis.call('ZCARD', key)
    if type(n) == 'table' then n = 0 end -- a key of the wrong type
    if n > 0 then
      first, last = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES'), redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
      first, last = first[2], last[2]
    end
  elseif c.lock then
    n, first, last = 1, c.lock.ends, c.lock.ends
  end
  if n == 0 then
    if c.user then return counted end
    if c.expires_at then return counted, 'x', whole(c.expires_at) end
    return counted, 'pool'
  end
  if max and c.uses + n >= max then return counted, c.user and 'a' or 'u', first end
  return counted, c.user and 'o' or 'p', last
end

-- The pool of free codes is in the directory: entries of other codes have a '!'. `f:<book>` counts a book's free
-- codes by bucket. During a rebuild fill_pool writes it at the end, which saves a quarter of Redis's time.
local fills_later = false

-- Write the coupon and move it from its old place. Returns how many free codes that took: 1 or 0.
local function settle(c, book, was_counted, was_set, was_score)
  -- @step settle
  return took
end
