-- A coupon: its record `c:<code>`, absent while nothing is true of it that its book doesn't say.
-- Fields: version user assigned_at uses max off expires_at last_redemption, then the one live lock of a code with a
-- single use: token holder order deadline started counted. `max` is the limit it was first locked or redeemed under
-- (0 for none), or its own.

local UNLOCKED = '- - - - - -'
local IDLE = '0 - - 0 - - - - ' .. UNLOCKED

-- `started` of a lock stays text.
local function read_coupon(code, bucket, text)
  if not text then
    return { code = code, bucket = bucket, version = 0, user = nil, assigned_at = '-', uses = 0, max = nil, off = false,
      expires_at = nil, last = nil, lock = nil }
  end
  local version, user, assigned_at, uses, max, off, expires_at, last, lock =
    string.match(text, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (.*)$')
  if lock == UNLOCKED then
    lock = nil
  else
    local token, holder, order, deadline, started, counted =
      string.match(lock, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
    lock = { token = token, user = holder, order = order, deadline = tonumber(deadline), started = started,
      counted = counted }
  end
  return {
    code = code, bucket = bucket, version = tonumber(version), user = given(user), assigned_at = assigned_at,
    uses = tonumber(uses), max = tonumber(max), off = off == '1', expires_at = tonumber(expires_at), last = given(last),
    lock = lock,
  }
end

local function save_coupon(c)
  local l, lock = c.lock, UNLOCKED
  if l then
    lock = l.token .. ' ' .. l.user .. ' ' .. l.order .. ' ' .. whole(l.deadline) .. ' ' .. l.started .. ' '
      .. l.counted
  end
  local text = whole(c.version) .. ' ' .. (c.user or '-') .. ' ' .. c.assigned_at .. ' ' .. whole(c.uses) .. ' '
    .. (c.max and whole(c.max) or '-') .. (c.off and ' 1 ' or ' - ') .. (c.expires_at and whole(c.expires_at) or '-')
    .. ' ' .. (c.last or '-') .. ' ' .. lock
  if text == IDLE then redis.call('DEL', W .. 'c:' .. c.code) else redis.call('SET', W .. 'c:' .. c.code, text) end
end

-- How often the code may be redeemed; nil for without limit.
local function limit_of(c, book)
  if not c.max then return book.per_code end
  if c.max > 0 then return c.max end
end

-- When the code's window ends: the earlier of its own and its book's end; nil for never.
local function end_of(c, book)
  if c.expires_at and book.till then return math.min(c.expires_at, book.till) end
  return c.expires_at or book.till
end
