--[[ assign_any: give a user a random free coupon of a book.
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 books        hash    book's uuid → its number
      5 outbox       stream  one event
ARGV  1 fingerprint  2 book_id  3 user  4 request
Reply {OK, view, "", replayed} or {outcome}
Event A
Cost  O(n) in the books of which the user holds coupons, where its number is limited; it takes back at most 20 coupons
      whose locks have expired, and ten times as many where none of them is free then ]]
-- @include gate outbox book coupon locks place holding idempotency view state assigning

local got = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
local reply, workspace, now = enter(got, false, false)
if reply then return reply end
local number = redis.call('HGET', KEYS[4], ARGV[2])
if not number then return { OUT.book_not_found } end
local book, user = read_book(number), ARGV[3]
local no = book_refuses(book, now) or user_refuses(user, book, workspace, now)
if no then return { no } end

-- The directory tells the code's bucket no more than its book; buckets of codes in sets travel with them.
local function load(code)
  local bucket, text = string.match(code, '^(%d+) (%S+)$')
  return read_coupon(text, bucket, redis.call('GET', W .. 'c:' .. text))
end

-- Coupons whose lock has run out are free again, though nobody touched them. Says how many there were.
local function take_back()
  local taken = 0
  for _, set in ipairs({ 'u', 'p' }) do
    local due = redis.call('ZRANGEBYSCORE', W .. 'l:' .. number .. ':' .. set, '-inf', now, 'LIMIT', 0, 10)
    taken = taken + #due
    for _, member in ipairs(due) do
      local c = load(member)
      local counted, was_set, score = place(c, book)
      prune_locks(c, limit_of(c, book), now)
      settle(c, book, counted, was_set, score)
    end
  end
  return taken
end

local function pick()
  local bucket = redis.call('SRANDMEMBER', W .. 'f:' .. number)
  if bucket then
    local codes, free = redis.call('HGETALL', W .. 'd:' .. bucket), {}
    for i = 1, #codes, 2 do
      if codes[i + 1] == number then free[#free + 1] = codes[i] end
    end
    -- Scripts get the same "random" numbers each time; the clock's microseconds differ.
    return load(bucket .. ' ' .. free[redis.call('TIME')[2] % #free + 1])
  end
  local dated = redis.call('ZRANGEBYSCORE', W .. 'l:' .. number .. ':x', '(' .. now, '+inf', 'LIMIT', 0, 1)[1]
  if dated then return load(dated) end
end

-- What is taken back may have ended, or have other live locks: then there may be more that is free.
local c
for _ = 1, 10 do
  local taken = take_back()
  c = pick()
  if c or taken == 0 then break end
end
if not c then return { OUT.out_of_stock } end
return assign(c, book, workspace, now, user, KEYS[5], ARGV[4])
