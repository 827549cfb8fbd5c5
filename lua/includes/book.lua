-- A workspace's and a book's settings, each one string (made by service/hot/projection.py); read into tables.

local function read_workspace(text)
  local _, per_order, currency, digits, max_coupons, keep_ms, gift_book, offset_ms =
    string.match(text, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
  return {
    per_order = tonumber(per_order), currency = currency, digits = tonumber(digits),
    max_coupons = tonumber(max_coupons), keep_ms = keep_ms, gift_book = given(gift_book),
    offset_ms = tonumber(offset_ms),
  }
end

-- Milliseconds on Redis's clock, moved by a test workspace's offset.
local function clock(workspace)
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000) + workspace.offset_ms
end

local function read_book(number)
  local text = redis.call('GET', W .. 'b:' .. number)
  local _, id, status, from, till, per_code, per_user, total, codes_per_user, assigned, locked, lock_ms, max_lock_ms,
    low, gift_book, kind, value, cap, min, currency, digits = string.match(text,
    '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) '
    .. '(%S+) (%S+)$')
  return {
    number = number, id = id, active = status == 'a', from = tonumber(from), till = tonumber(till),
    per_code = tonumber(per_code), per_user = tonumber(per_user), total = tonumber(total),
    codes_per_user = tonumber(codes_per_user), require_assignment = assigned == '1', require_lock = locked == '1',
    lock_ms = tonumber(lock_ms), max_lock_ms = tonumber(max_lock_ms), low = tonumber(low),
    gift_book = given(gift_book), kind = given(kind), value = value,
    cap = tonumber(cap), min = tonumber(min), currency = given(currency), digits = tonumber(digits),
  }
end
