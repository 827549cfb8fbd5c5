-- A workspace's and a book's settings as tables. service/engine/formats/stored_settings.py makes the texts, and fills
-- in what stands in braces here. Each begins with a version and a word that says which texts of lua/fast/ may decide.
-- lua/fast/ reads the same texts; includes/coupon_counts.lua and limits.lua some settings. Needs gate.

-- max_coupons, offset_ms (by which a test workspace's clock is moved) and now (ms, on its clock) are numbers, all else
-- is text; nil for none. full: '1' or '2' where the workspace has reached its bound of storage (includes/storage.lua).
-- sampled_at: of one in 64 requests the real time, for includes/idempotency.lua; else false. What follows, ' limits='
-- of its books, is for lua/lock.lua and includes/limits.lua. Raises an error for a text that this version can't read.
local function read_workspace(settings)
  local per_order, currency, digits, max_coupons, keep_ms, gift_book, offset_ms, full, more =
    string.match(settings, '^%S+ {workspace word} (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%-?%d+)!?(%d?)(.*)$')
  if more ~= '' and not string.find(more or '', '^ limits=%S+$') then
    error({ err = 'UNREADABLE settings of a workspace' }, 0)
  end
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  return {
    per_order = per_order,
    currency = currency,
    digits = digits,
    max_coupons = tonumber(max_coupons),
    keep_ms = keep_ms,
    gift_book = gift_book ~= '-' and gift_book or nil,
    offset_ms = tonumber(offset_ms),
    now = now + offset_ms,
    full = full ~= '' and full,
    sampled_at = time[2] % 64 == 0 and now,
  }
end

-- The mark of a full workspace in its settings ('!1', '!2', or ''), and settings without one with this mark.
local UP_TO_MARK = '^(%S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ %-?%d+)'
local function mark_of(settings)
  local _, mark = string.match(settings, UP_TO_MARK .. '(!?%d?)')
  return mark or ''
end

local function marked(settings, mark) return (string.gsub(settings, UP_TO_MARK, '%1' .. mark)) end

-- The settings that are stored by name. A book with another one is unreadable: a later version knows what it forbids.
local KNOWN = ' {book names} '

-- made: the settings' text, where the caller has it already; else it is read. Numbers: from and till (ms), the limits
-- per_user and codes_per_user, low (below how many free codes it runs low), cap and least (amounts, e4); require_lock
-- is true or false; all else is text: lock_ms and max_lock_ms, which are only added to numbers, discount (its kind),
-- ended (includes/locks.lua), '' for none. nil for none. By name, nil where it is usual: per_code (1; nil for no
-- limit), total, bounds (includes/budgets.lua), require_assignment, gift_book (of orders with its coupons),
-- public_reasons, limits ('<misses>/<locks of a user>/<locked percent>', '-' for none), status (nil for active;
-- 'unreadable' permits nothing).
local function read_book(number, made)
  local text = made or redis.call('GET', W .. 'b:' .. number)
  -- @book settings = text
  if more ~= '' then
    local is_known = id
    for name, kind, value in string.gmatch(more or '', ' ([^ ]+)([=#])(%S+)') do
      settings[name] = kind == '=' and value or tonumber(value)
      is_known = is_known and string.find(KNOWN, ' ' .. name .. ' ', 1, true)
    end
    if not is_known then settings.status = 'unreadable' end
  end
  return settings
end

-- Whether every script can read it.
local function is_whole_workspace(text)
  return string.match(text .. ' ', '^%S+ {workspace word} %d+ %S+ %d %S+ %d+ %S+ %-?%d+ ')
end

local function is_whole_book(book)
  return book.id
    and string.match(book.lock_ms .. ' ' .. book.max_lock_ms, '^%d+ %d+$')
    and (not book.bounds or string.match(book.bounds, '^%d+!?/[^/]+/%a:%a:%a:%d+'))
end
