--[[ erase_user: put a pseudonym for a user into some of what is kept. What isn't the user's, or no more, stays as it is, so
     that a repeat does nothing. Run by the worker alone.
KEYS  1 gate       string  epoch and state, read first
      2 workspace  string  its settings
      3 outbox     stream  one event
ARGV  1 user  2 pseudonym, then for each thing its kind and five words:
      c  code bucket assigned_at order order_bucket: an assignment, and the order that it was a gift for
      r  redemption_id request: a redemption, and the request's part that stays
      i  key entry entry_without_the_user: an idempotency key
      u  version: the user's cap, where it is still this change's; this says that all is done
Reply {OK} or {outcome}
Event K, with u
Cost  O(n) in the things, at most 50 of them: at most 30 commands each, and O(k) in the live locks of a coupon ]]
-- @include gate outbox book coupon locks counts place holding orders state

local got = redis.call('MGET', KEYS[1], KEYS[2])
local no = gate_refuses(got[1], true, true)
if no then return { no } end
if not got[2] then return { OUT.recovering } end
local now = clock(read_workspace(got[2]))
local user, pseudonym = ARGV[1], ARGV[2]
local from, to = W .. 'u:' .. user, W .. 'u:' .. pseudonym

-- The locks on the user's coupon end: nobody can redeem under them any more.
local function assignment(code, bucket, at)
  local number = redis.call('HGET', W .. 'd:' .. bucket, code)
  local c = read_coupon(code, bucket, redis.call('GET', W .. 'c:' .. code))
  if not number or c.user ~= user or c.assigned_at ~= at then return end
  local book = read_book(string.match(number, '^%d+'))
  local max = limit_of(c, book)
  local counted, set, score = place(c, book)
  drop_locks(c, max, book, now)
  local held = not (max and c.uses >= max)
  if held then let_go(c, book) end
  local had = 'a' .. book.number
  if redis.call('HINCRBY', from, had, -1) == 0 then redis.call('HDEL', from, had, 'h' .. book.number) end
  c.user = pseudonym
  redis.call('HINCRBY', to, had, 1)
  if held then hold(c, book) else redis.call('HINCRBY', to, 'h' .. book.number, 0) end
  settle(c, book, counted, set, score)
end

local function gift(code, bucket, at, order, order_bucket)
  local key, rest = W .. 'g:' .. order_bucket, ' ' .. at
  local start = code .. ' ' .. bucket .. ' '
  if redis.call('HGET', key, order) == start .. user .. rest then redis.call('HSET', key, order, start .. pseudonym .. rest) end
end

local AFTER_USER = string.rep(' %S+', 11)

local function redemption(id, request)
  local record = redis.call('GET', W .. 'r:' .. id)
  local e = record and read_redemption(record)
  if not e or e.user ~= user then return end
  local start, rest = string.match(record, '^(%S+ %S+ %S+ R %S+ %S+ %S+ )%S+(' .. AFTER_USER .. ') ')
  redis.call('SET', W .. 'r:' .. id, start .. pseudonym .. rest .. ' ' .. request)
  if e.order ~= '-' then
    local key = W .. 'o:' .. e.order_bucket
    local list = places(redis.call('HGET', key, e.order))
    for _, p in ipairs(list) do
      if p.id == id then p.user = pseudonym end
    end
    redis.call('HSET', key, e.order, entry_of(list))
  end
  local taken, standing = e.restored == '1' and 0 or 1, e.rolled_at and 0 or 1
  local book, field = read_book(e.book), 'r' .. e.book
  local left, stand = count_user(user, book, -taken, -standing), count_user(pseudonym, book, taken, standing)
  if redis.call('HGET', from, field) == '0 0' then redis.call('HDEL', from, field) end
  if standing == 1 then
    local users = (stand == 1 and 1 or 0) - (left == 0 and 1 or 0)
    if users ~= 0 then count(e.book, 'users', users) end
  end
end

for i = 3, #ARGV, 6 do
  local kind, a, b, c, d, e = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5]
  if kind == 'c' then
    assignment(a, b, c)
    if d ~= '-' then gift(a, b, c, d, e) end
  elseif kind == 'r' then redemption(a, b)
  elseif kind == 'i' then
    local left_ms = redis.call('PTTL', W .. 'i:' .. a)
    if left_ms > 0 and redis.call('GET', W .. 'i:' .. a) == b then redis.call('SET', W .. 'i:' .. a, c, 'PX', left_ms) end
  elseif kind == 'u' then
    if not append(KEYS[3], 'K ' .. workspace_number() .. ' ' .. now, '{}') then return { OUT.recovering } end
    if redis.call('HGET', from, 'cap') == a .. ' -' then redis.call('HDEL', from, 'cap') end
  end
end
return { OUT.OK }
