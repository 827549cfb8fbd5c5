-- A coupon: what the directory's entry says of it, and its record `c:<code>`, absent while nothing is true of it that its
-- book or the entry doesn't say. An entry is '<book>' of a free code, '<book>!' of another, '<book>!<event>' of one with a
-- single use that this redemption spent, where nothing else is true of it.
-- Fields of a record: version user assigned_at uses max off expires_at last_redemption (its event), then the one live lock
-- of a code with a single use: token holder order deadline started counted. `max` is the limit it was first locked or
-- redeemed under (0 for none), or its own. `off` is '-' for a code that is usable, '1' for one that the merchant switched
-- off, '2' for one that is blocked since an event of it is in quarantine, '3' for both. In Python:
-- service/formats/coupon_record.py and directory_entry.py.

local UNLOCKED = '- - - - - -'
local IDLE = '0 - - 0 - - - - ' .. UNLOCKED

-- The number of the book that a directory's entry names.
local function book_number_of(entry) return string.match(entry, '^%d+') end

local function is_free_entry(entry) return not string.find(entry, '!', 1, true) end

-- `started` of a lock stays text.
local function read_coupon(code, bucket, entry, text)
  if not text then
    local last = string.match(entry, '!(.+)$')
    return { code = code, bucket = bucket, entry = entry, version = 0, user = nil, assigned_at = '-',
      uses = last and 1 or 0, max = last and 1, off = nil, expires_at = nil, last = last, lock = nil }
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
    code = code, bucket = bucket, entry = entry, text = text, version = tonumber(version), user = given(user),
    assigned_at = assigned_at, uses = tonumber(uses), max = tonumber(max), off = given(off),
    expires_at = tonumber(expires_at), last = given(last), lock = lock,
  }
end

-- Nil where there is no such code.
local function load_coupon(code, bucket)
  local entry = redis.call('HGET', W .. 'd:' .. bucket, code)
  return entry and read_coupon(code, bucket, entry, redis.call('GET', W .. 'c:' .. code))
end

-- The record's text; nil where the directory says it all.
local function record_text(c)
  local l, lock = c.lock, UNLOCKED
  if l then
    lock = l.token .. ' ' .. l.user .. ' ' .. l.order .. ' ' .. whole(l.deadline) .. ' ' .. l.started .. ' '
      .. l.counted
  end
  local text = whole(c.version) .. ' ' .. (c.user or '-') .. ' ' .. c.assigned_at .. ' ' .. whole(c.uses) .. ' '
    .. (c.max and whole(c.max) or '-') .. ' ' .. (c.off or '-') .. ' ' .. (c.expires_at and whole(c.expires_at) or '-')
    .. ' ' .. (c.last or '-') .. ' ' .. lock
  return text ~= IDLE and text or nil
end

-- Write the coupon, which is free or not, to directory and record, as far as that changes them.
local function save_coupon(c, number, free)
  local entry, text = free and number or number .. '!', nil
  if c.max == 1 and c.last and c.version == 0 and not (c.user or c.off or c.expires_at or c.lock) then
    entry = entry .. c.last
  else
    text = record_text(c)
  end
  if entry ~= c.entry then redis.call('HSET', W .. 'd:' .. c.bucket, c.code, entry) end
  if text then redis.call('SET', W .. 'c:' .. c.code, text)
  elseif c.text then redis.call('DEL', W .. 'c:' .. c.code) end
  c.entry, c.text = entry, text
end

-- What `off` becomes when the merchant switches a code on or off, or it is blocked. A block stays.
local function off_word(active, blocked)
  if active then return blocked and '2' or nil end
  return blocked and '3' or '1'
end

local function is_blocked(c) return c.off == '2' or c.off == '3' end

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

-- Whether the redemption of this event, of this coupon or any other, is one of this coupon's that stand.
local function stands(c, event)
  if c.max == 1 then return c.last == event end
  return c.last == event or redis.call('ZSCORE', W .. 's:' .. c.code, event) ~= false
end
