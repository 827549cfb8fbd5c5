-- A coupon's place: the counter of its book that counts it, and the set that has it. Both follow from its record and
-- its stored locks, so a change compares the place before with that after, and moves the coupon. Comparisons expect the
-- same: `free` and `waits_for_end` of service/engine/formats/coupon_state.py. Needs gate, coupon, counters (or tally).

-- Returns counted ('available' is what remains), set (pool, x, u, a, p, o or nil), score (as text).
local function place(c, book)
  local max, funds, held = limits_of(c, book), nil, nil -- of a card: what it has, and what its stored locks hold
  if max and c.uses >= max then return max == 1 and 'redeemed' or 'exhausted' end
  local stored
  -- @holds left c -> funds
  if funds == 0 then return 'exhausted' end
  -- @holds stored c -> stored
  if stored then held = stored.held end
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
  if max and c.uses + n >= max or funds and held >= funds then return counted, c.user and 'a' or 'u', first end
  return counted, c.user and 'o' or 'p', funds and first or last -- each lock of a card that ends gives its part back
end

-- Whether what `place` returned counts a coupon of which nothing is left.
local function is_used_up(counted) return counted == 'redeemed' or counted == 'exhausted' end

-- The pool of free codes is in the directory: entries of other codes have a '!'. `f:<book>` counts a book's free
-- codes by bucket. During a rebuild fill_pool writes it at the end, which saves a quarter of Redis's time.
local fills_later = false

-- Write the coupon to directory and record, as far as that changes them (formats: includes/coupon.lua).
local function save_coupon(c, number, is_free)
  local entry, text = is_free and number or number .. '!', nil
  local is_plain = c.max == 1 and c.version == '0' and not (c.user or c.off or c.expires_at)
  if is_plain and c.last and not c.lock then
    entry = entry .. c.last
  else
    local record, lock = record_text(c)
    local is_short = is_plain and c.lock and c.uses == 0 and #entry + #lock <= ENTRY_BYTES
    if is_short then
      entry = entry .. lock
    else
      text = record
    end
    if is_free and text then entry = entry .. '+' end
  end
  if entry ~= c.entry then redis.call('HSET', W .. 'd:' .. c.bucket, c.code, entry) end
  if text then
    redis.call('SET', W .. 'c:' .. c.code, text)
  elseif c.text then
    redis.call('DEL', W .. 'c:' .. c.code)
  end
  c.entry, c.text = entry, text
end

-- Write a changed coupon and move it from its old place. Returns how many free codes that took: 1 or 0.
local function settle(c, book, was_counted, was_set, was_score)
  local counted, set, score = place(c, book)
  save_coupon(c, book.number, set == 'pool')
  if counted ~= was_counted then
    if was_counted ~= 'available' then count(book.number, was_counted, '-1') end
    if counted ~= 'available' then count(book.number, counted, '1') end
  end
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
  -- @holds save c, book
  return was_counted == 'available' and counted ~= was_counted and 1 or 0
end
