-- A random free coupon of a book.

-- Coupons whose lock has run out are free again, though nobody touched them. Says how many there were.
local function take_back(book, now, but)
  local taken = 0
  for _, set in ipairs({ 'u', 'p' }) do
    local due = redis.call('ZRANGEBYSCORE', W .. 'l:' .. book.number .. ':' .. set, '-inf', now, 'LIMIT', 0, 10)
    for _, member in ipairs(due) do
      local bucket, code = string.match(member, '^(%d+) (%S+)$')
      if code ~= but then
        local c = load_coupon(code, bucket)
        local counted, was_set, score = place(c, book)
        prune_locks(c, limit_of(c, book), now, book)
        settle(c, book, counted, was_set, score)
        taken = taken + 1
      end
    end
  end
  return taken
end

-- The coupon that was picked when facts of its last redemption were missing, if it is free still.
local function picked_before(book, now, but)
  for i = facts_from, #ARGV, 2 do
    local number, code, bucket = string.match(ARGV[i + 1], '^%S+ R %S+ (%S+) (%S+)' .. string.rep(' %S+', 9) .. ' (%S+)')
    if number == book.number and code ~= but then
      local c = load_coupon(code, bucket)
      local _, set, ends_at = place(c, book)
      if set == 'pool' or (set == 'x' and ends_at > now) then return c end
    end
  end
end

local function pick(book, now, but)
  -- Servers say {} where there is none, fakeredis nil.
  for _, bucket in ipairs(redis.call('HRANDFIELD', W .. 'f:' .. book.number, but and 2 or 1) or {}) do
    local codes, free = redis.call('HGETALL', W .. 'd:' .. bucket), {}
    for i = 1, #codes, 2 do
      if codes[i + 1] == book.number and codes[i] ~= but then free[#free + 1] = codes[i] end
    end
    -- Scripts get the same "random" numbers each time; the clock's microseconds differ.
    if #free > 0 then return load_coupon(free[redis.call('TIME')[2] % #free + 1], bucket) end
  end
  for _, dated in ipairs(redis.call('ZRANGEBYSCORE', W .. 'l:' .. book.number .. ':x', '(' .. now, '+inf', 'LIMIT', 0, 2)) do
    local bucket, code = string.match(dated, '^(%d+) (%S+)$')
    if code ~= but then return load_coupon(code, bucket) end
  end
end

-- Nil where there is none; `but` is a code that it must not be. What is taken back may have ended, or have other live
-- locks: then there may be more that is free.
local function find_free(book, now, but)
  for _ = 1, 10 do
    local taken = take_back(book, now, but)
    local c = picked_before(book, now, but) or pick(book, now, but)
    if c or taken == 0 then return c end
  end
end
