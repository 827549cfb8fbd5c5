-- A random free coupon. For lua/assign_any.lua, checkout.lua, gift.lua. Needs gate, coupon, locking, place.

local MOST_WORK = 500 -- in taking back: 10 for a coupon, 1 for each of its locks

-- Set coupons free whose locks have expired. Returns whether there were any, and the work so far. but: as in find_free.
local function take_back(book, now, but, work)
  local taken, due_by = false, whole(now)
  for _, set in ipairs({ 'u', 'p' }) do
    local due = redis.call('ZRANGEBYSCORE', W .. 'l:' .. book.number .. ':' .. set, '-inf', due_by, 'LIMIT', 0, 10)
    for _, member in ipairs(due) do
      local bucket, code = string.match(member, '^(%d+) (%S+)$')
      if code ~= but and work < MOST_WORK then
        local c = load_coupon(code, bucket)
        local counted, was_set, score = place(c, book)
        work = work + 10 + (prune_locks(c, limits_of(c, book), now, book) or 0)
        settle(c, book, counted, was_set, score)
        taken = true
      end
    end
  end
  return taken, work
end

-- The coupon that the previous run picked before it recalled facts, if it is still free.
local function picked_before(book, now, but)
  for i = facts_from, #ARGV, 2 do
    -- @include facts
    local e = read_record(ARGV[i + 1])
    if e.book == book.number and e.code ~= but then
      local c = load_coupon(e.code, e.bucket)
      local _, set, ends_at = place(c, book)
      if set == 'pool' or (set == 'x' and tonumber(ends_at) > now) then return c end
    end
  end
end

-- The book's free codes in a bucket. Where very many codes fall into one, some of them: those among a thousand, else
-- among a thousand more from a place that differs each time; then also true where an unread part may have one.
local function free_in(bucket, book, but, micros)
  local free, at, passed, of_free, of_recorded = {}, '0', nil, book.number, book.number .. '+'
  for look = 1, 2 do
    local page = redis.call('HSCAN', W .. 'd:' .. bucket, at, 'COUNT', '1000')
    local codes = page[2]
    for i = 1, #codes, 2 do
      local entry = codes[i + 1]
      if (entry == of_free or entry == of_recorded) and codes[i] ~= but then free[#free + 1] = codes[i] end
    end
    passed = look == 2 or page[1] ~= '0'
    if free[1] or not passed then break end
    at = whole(micros * 4099)
  end
  return free, passed
end

-- A coupon, nil for none; then also true if an unread part may have one.
local function pick(book, now, but)
  local passed = false
  -- Servers say {} where there is none, fakeredis nil.
  for _, bucket in ipairs(redis.call('HRANDFIELD', W .. 'f:' .. book.number, but and '2' or '1') or {}) do
    -- Scripts get the same "random" numbers each time; the clock's microseconds differ.
    local micros = tonumber(redis.call('TIME')[2])
    local free, partly = free_in(bucket, book, but, micros)
    if #free > 0 then return load_coupon(free[micros % #free + 1], bucket) end
    passed = passed or partly
  end
  for _, dated in
    ipairs(redis.call('ZRANGEBYSCORE', W .. 'l:' .. book.number .. ':x', '(' .. whole(now), '+inf', 'LIMIT', 0, 2))
  do
    local bucket, code = string.match(dated, '^(%d+) (%S+)$')
    if code ~= but then return load_coupon(code, bucket) end
  end
  return nil, passed
end

-- A coupon; nil where there is none, or nil and true where another request may come to one; but: a code that it must
-- not be. What is taken back may have ended, or have other live locks: then there may be more that is free.
local function find_free(book, now, but)
  local taken, work = nil, 0
  for _ = 1, 10 do
    taken, work = take_back(book, now, but, work)
    local c, passed = picked_before(book, now, but), false
    if not c then
      c, passed = pick(book, now, but)
    end
    if c or passed or not taken then return c, passed end
    if work >= MOST_WORK then break end
  end
  return nil, true
end
