-- A coupon: what the directory's entry says of it, and its record `c:<code>`, absent while nothing is true of it that
-- its book or the entry doesn't say. An entry is '<book>' of a free code, '<book>+' of one with a record, '<book>!' of
-- another, which has a record; '<book>!<event>' of one with a single use that this redemption spent, '<book>!<lock>' of
-- one with a single use that is locked, where nothing else is true of it. Needs gate.
-- Fields of a record: version user assigned_at uses max off expires_at last_redemption (its event), then the one live
-- lock of a code with a single use: token holder order order_bucket deadline started counted, and what it holds of an
-- order's price (includes/pricing.lua), where it does. `max` is the limit it was first locked
-- or redeemed under (0 for none), or its own. `off`: '-' usable, '1' switched off by the merchant, '2' blocked, as an
-- event of it is in quarantine, '3' both. In Python: service/engine/formats/coupon_record.py and directory_entry.py.
-- The lock is in the record where the entry would be longer than ENTRY_BYTES (docs/internals/decisions/0018).

local UNLOCKED = '- - - - - - -'
local IDLE = '0 - - 0 - - - - - - - - - - -'

-- The number of the book that a directory's entry names.
local function book_number_of(entry) return string.match(entry, '^%d+') end

-- The coupon's table from its entry and its record, the string `key`. What is only copied stays text: the version,
-- `started` of a lock. A record that can't be read ends the script: it has no `uses` to add to.
local function read_coupon(code, bucket, entry, key)
  local text = string.find(entry, '[+!]$') and redis.call('GET', key)
  local record = text or string.find(entry, ' ', 1, true) and '0 - - 0 1 - - - ' .. string.match(entry, '!(.*)$')
  if not record then
    local last = string.match(entry, '!(.+)$')
    return {
      code = code,
      bucket = bucket,
      entry = entry,
      version = '0',
      user = nil,
      assigned_at = '-',
      uses = last and 1 or 0,
      max = last and 1,
      off = nil,
      expires_at = nil,
      last = last,
      lock = nil,
    }
  end
  -- stylua: ignore
  local version, user, assigned_at, uses, limit, off, expires_at, last, token, holder, order, order_bucket, ends,
    started, counted, hold = string.match(
      record, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) ?(%S*)$')
  local deadline = tonumber(ends)
  return {
    code = code,
    bucket = bucket,
    entry = entry,
    text = text,
    version = version,
    user = user ~= '-' and user or nil,
    assigned_at = assigned_at,
    uses = uses + 0,
    max = tonumber(limit),
    off = off ~= '-' and off or nil,
    expires_at = tonumber(expires_at),
    last = last ~= '-' and last or nil,
    lock = deadline and {
      token = token,
      user = holder,
      order = order,
      order_bucket = order_bucket,
      deadline = deadline,
      ends = ends,
      started = started,
      counted = counted,
      hold = hold ~= '' and hold or nil,
    },
  }
end

-- The same, read from Redis; nil where there is no such code.
local function load_coupon(code, bucket)
  local entry = redis.call('HGET', W .. 'd:' .. bucket, code)
  return entry and read_coupon(code, bucket, entry, W .. 'c:' .. code)
end

-- The record, nil where the directory says it all; and the lock in it, as text.
local function record_text(c)
  local l, lock = c.lock, UNLOCKED
  if l then
    lock = l.token
      .. ' '
      .. l.user
      .. ' '
      .. l.order
      .. ' '
      .. l.order_bucket
      .. ' '
      .. l.ends
      .. ' '
      .. l.started
      .. ' '
      .. l.counted
    if l.hold then lock = lock .. ' ' .. l.hold end
  end
  local text = c.version
    .. ' '
    .. (c.user or '-')
    .. ' '
    .. c.assigned_at
    .. ' '
    .. whole(c.uses)
    .. ' '
    .. (c.max and whole(c.max) or '-')
    .. ' '
    .. (c.off or '-')
    .. ' '
    .. (c.expires_at and whole(c.expires_at) or '-')
    .. ' '
    .. (c.last or '-')
    .. ' '
    .. lock
  return text ~= IDLE and text or nil, lock
end

-- What `off` becomes when the merchant switches a code on or off, or it is blocked. A block stays.
local function off_word(active, blocked)
  if active then return blocked and '2' or nil end
  return blocked and '3' or '1'
end

local function is_blocked(c) return c.off == '2' or c.off == '3' end

-- Whether a lock with this `counted` was ended by the merchant. c: after limits_of.
local function has_ended(c, counted) return c.ended and string.match(counted, '^%d*') ~= c.ended end

-- How often the code may be redeemed, nil for without limit, and when it or its book ends, nil for never. c.max (0: no
-- limit), the code's own or the one that it was first used under, stands though the book's has changed.
-- A lock that the merchant ended (includes/locks.lua) is from here on one that has expired.
local function limits_of(c, book)
  if book.ended ~= '' then
    c.ended = book.ended
    if c.lock and has_ended(c, c.lock.counted) then c.lock.deadline = 0 end
  end
  local max = c.max or book.per_code
  return max ~= 0 and max or nil,
    c.expires_at and book.till and math.min(c.expires_at, book.till) or c.expires_at or book.till
end

-- Whether the redemption of this event, of this coupon or any other, is one of this coupon's that stand.
local function stands(c, event)
  if c.max == 1 then return c.last == event end
  return c.last == event or redis.call('ZSCORE', W .. 's:' .. c.code, event) ~= false
end
