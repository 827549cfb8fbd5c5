--[[ erase_user: put a pseudonym for a user into some of what is kept. What isn't the user's, or no more, stays as it
     is, so that a repeat does nothing.
Called by service/server/in_redis/pseudonyms.py, in the worker alone
KEYS  1 gate       string  epoch and state, read first
      2 workspace  string  its settings
      3 outbox     stream  one event
ARGV  1 user  2 user_bucket  3 pseudonym  4 pseudonym_bucket, then for each thing its kind and five words:
      c  code bucket assigned_at order order_bucket: an assignment, and the order that it was a gift for
      r  event code bucket book counts ('<1 where it was rolled back without restore, else 0>/<its discount, e4>/<the
         time in whose periods it counts, ms>'): the counts of a redemption
      i  key entry entry_without_the_user: an idempotency key
      m  event: Postgres has the pseudonym in what was decided up to this
      d  event: and in this redemption
      u  version: the user's cap, where it is still this change's; this says that all is done
Reply {OK} or {outcome}
Event K, with u
Cost  at most 4 commands, 36 for each of at most 10 things, and 1 for each of at most 1,000 keys that took locks on the
      coupons, a hundred of which are forgotten for each ]]
-- @include gate gate_refuses outbox book coupon counters locking place coupon_counts events facts redemption gifts

local got = redis.call('MGET', KEYS[1], KEYS[2])
-- Runs while the gate is full or behind, too: users' deletion goes on.
if gate_refuses(got[1], true, true) or not got[2] then return { OUT.recovering } end
local now = read_workspace(got[2]).now
local user, old_bucket, pseudonym, new_bucket = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local old_key, new_key = W .. 'u:' .. user, W .. 'u:' .. pseudonym

-- The locks on the user's coupon end: nobody can redeem under them any more.
local function assignment(code, bucket, at)
  local c = load_coupon(code, bucket)
  if not c or c.user ~= user or c.assigned_at ~= at then return end
  local book = read_book(book_number_of(c.entry))
  local max = limits_of(c, book)
  local counted, set, score = place(c, book)
  drop_locks(c, max, book, now)
  local held = not is_used_up(counted)
  if held then count_assigned(c, book, '-1') end
  local had = 'a' .. book.number
  if redis.call('HINCRBY', old_key, had, -1) == 0 then redis.call('HDEL', old_key, had) end
  c.user = pseudonym
  redis.call('HINCRBY', new_key, had, 1)
  if held then count_assigned(c, book, '1') end
  settle(c, book, counted, set, score)
end

local function gift(code, bucket, at, order, order_bucket)
  local key = W .. 'g:' .. order_bucket
  if redis.call('HGET', key, order) == gift_text(code, bucket, user, at) then
    redis.call('HSET', key, order, gift_text(code, bucket, pseudonym, at))
  end
end

-- What was rolled back gave its use back, or keeps it: then Postgres says so once that is recorded. The entry in `e` is
-- what a repeat, and a rollback, find (lua/includes/facts.lua).
local function redemption(event, code, bucket, number, counts)
  local kept, discount, counted_at = string.match(counts, '^([01])/(%d+)/(%d+)$')
  local c = load_coupon(code, bucket)
  if not c then return end -- of an archived book
  local standing = stands(c, event) and 1 or 0
  if standing == 0 and kept ~= '1' or redis.call('HSETNX', W .. 'e', event, pseudonym .. ' ' .. new_bucket) == 0 then
    return
  end
  local left = count_user(user, old_bucket, number, -1, -standing)
  local stand = count_user(pseudonym, new_bucket, number, 1, standing)
  local users = (stand == 1 and 1 or 0) - (left == 0 and 1 or 0)
  if standing == 1 and users ~= 0 then count(number, 'users', users) end
  local book = read_book(number)
  local is_moved
  -- @holds move book, user, old_bucket, pseudonym, new_bucket, discount, counted_at + 0 -> is_moved
  if not is_moved then
    -- @include budgets
    drop_user_spent(number, user, old_bucket) -- of budgets that it had before
  end
end

for i = 5, #ARGV, 6 do
  local kind, a, b, c, d, e = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5]
  if kind == 'c' then
    assignment(a, b, c)
    if d ~= '-' then gift(a, b, c, d, e) end
  elseif kind == 'r' then
    redemption(a, b, c, d, e)
  elseif kind == 'm' then
    local last = not names_erased(string.match(a, '^(%d+)-(%d+)$')) and a or string.match(erased, '/(.+)$')
    erased = whole((tonumber(string.match(erased, '^%d+')) or 0) + 1) .. '/' .. last -- for includes/facts.lua, too
    redis.call('HSET', W .. 'e', 'last', erased)
  elseif kind == 'd' then
    redis.call('HDEL', W .. 'e', a)
  elseif kind == 'i' then
    local left_ms = redis.call('PTTL', W .. 'i:' .. a)
    if left_ms > 0 and redis.call('GET', W .. 'i:' .. a) == b then
      redis.call('SET', W .. 'i:' .. a, c, 'PX', whole(left_ms))
    end
  elseif kind == 'u' then
    if not append(KEYS[3], answered_event(whole(now)), '{}') then return { OUT.recovering } end
    if redis.call('HGET', old_key, 'cap') == a .. ' -' then
      redis.call('HDEL', old_key, 'cap')
      redis.call('HINCRBY', W .. 'y', 'users', -1)
    end
  end
end
return { OUT.OK }
