-- Locks: holds on one use, each for one user and order until a deadline. A code with a single use has its lock in its
-- record. One with several has a hash `k:<code>`, '<user> <order>' → '<token> <ends> <started> <counted>[ <hold>]' and
-- '=<token>' → '<user> <order>', and the deadlines `kd:<code>`. A lock is a table {token, user, order ('-' for none),
-- order_bucket (nil where the code has several uses), deadline, ends (the same as text), started (text), counted, hold
-- (the price that it holds, includes/pricing.lua; nil for none)}; `counted` is the book's `ended`, then which limits it
-- holds a use of: u(ser), b(ook); i where its items are counted (count_bytes of includes/locking.lua), which
-- fast/usual_redeem.lua leaves to others; then a '.', and the id of the key that took it, in digits and capitals, where
-- that key's locks are limited. The merchant ends all locks of a book by another `ended`, the configuration's version;
-- a lock with another is worth as little as one that has expired. Until lua/sweep_locks.lua has removed it, it counts:
-- of a user, of a code with several uses, of a key.
-- includes/locking.lua changes them; lua/coupon_locks.lua lists them. Needs gate.

-- The number of live locks.
local function live_locks(c, max, now)
  if max ~= 1 then return redis.call('ZCOUNT', W .. 'kd:' .. c.code, '(' .. whole(now), '+inf') end
  return c.lock and c.lock.deadline > now and 1 or 0
end

-- The live lock of this user and order ('-' for none); nil for none.
local function lock_of(c, max, user, order, now)
  if max == 1 then
    local l = c.lock
    return l and l.deadline > now and l.user == user and l.order == order and l or nil
  end
  local text = redis.call('HGET', W .. 'k:' .. c.code, user .. ' ' .. order)
  if not text then return nil end
  local token, ends, started, counted, hold = string.match(text, '^(%S+) (%S+) (%S+) (%S+) ?(%S*)$')
  local deadline = tonumber(ends)
  if has_ended(c, counted) then deadline = 0 end
  return deadline > now
      and {
        token = token,
        user = user,
        order = order,
        deadline = deadline,
        ends = ends,
        started = started,
        counted = counted,
        hold = hold ~= '' and hold or nil,
      }
    or nil
end

-- The live lock with this token; nil where it was released, has expired or never was.
local function lock_by_token(c, max, token, now)
  local l = c.lock
  if max ~= 1 then
    local user, order = string.match(redis.call('HGET', W .. 'k:' .. c.code, '=' .. token) or '', '^(%S+) (%S+)$')
    l = user and lock_of(c, max, user, order, now)
  end
  return l and l.deadline > now and l.token == token and l or nil
end
