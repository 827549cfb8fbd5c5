-- A coupon: what the directory's entry says of it, and its record `c:<code>`, absent while nothing is true of it that
-- its book or the entry doesn't say. An entry is '<book>' of a free code, '<book>+' of one with a record, '<book>!' of
-- another, which has a record; '<book>!<event>' of one with a single use that this redemption spent, '<book>!<lock>' of
-- one with a single use that is locked, where nothing else is true of it. Needs gate.
-- Fields of a record: version user assigned_at uses max off expires_at last_redemption (its event), then the one live
-- lock of a code with a single use: token holder order deadline started counted. `max` is the limit it was first locked
-- or redeemed under (0 for none), or its own. `off`: '-' usable, '1' switched off by the merchant, '2' blocked, as an
-- event of it is in quarantine, '3' both. In Python: service/engine/formats/coupon_record.py and directory_entry.py.
-- The lock is in the record where the entry would be longer than ENTRY_BYTES (docs/internals/decisions/0018).

local UNLOCKED = '- - - - - -'
local IDLE = '0 - - 0 - - - - - - - - - -'

-- The number of the book that a directory's entry names.
local function book_number_of(entry) return string.match(entry, '^%d+') end

-- Whether the code has a record.
local function has_record(entry) return string.find(entry, '[+!]$') end

-- The coupon's table (steps/record.lua) from its entry and its record, `text`, nil or false for none.
local function read_coupon(code, bucket, entry, text)
  -- @step record
  return c
end

-- The same, read from Redis; nil where there is no such code.
local function load_coupon(code, bucket)
  local entry = redis.call('HGET', W .. 'd:' .. bucket, code)
  return entry and read_coupon(code, bucket, entry, has_record(entry) and redis.call('GET', W .. 'c:' .. code))
end

-- The record; nil where the entry says it all.
local function record_text(c)
  -- @step record_text
  return text
end

-- What `off` becomes when the merchant switches a code on or off, or it is blocked. A block stays.
local function off_word(active, blocked)
  if active then return blocked and '2' or nil end
  return blocked and '3' or '1'
end

local function is_blocked(c) return c.off == '2' or c.off == '3' end

-- How often it may be redeemed; nil for without limit.
local function limit_of(c, book)
  -- @step limit
  return max
end

-- Whether the redemption of this event, of this coupon or any other, is one of this coupon's that stand.
local function stands(c, event)
  if c.max == 1 then return c.last == event end
  return c.last == event or redis.call('ZSCORE', W .. 's:' .. c.code, event) ~= false
end
