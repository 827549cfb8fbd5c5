-- A workspace's and a book's settings, each one string (made by service/formats/stored_settings.py); read into tables. Numbers
-- that are only added to others stay text.

local function read_workspace(text)
  local per_order, currency, digits, max_coupons, keep_ms, gift_book, rest =
    string.match(text, '^%S+ (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (.*)$')
  local offset_ms, limits = 0, nil -- nearly always: the rest is '0'
  if rest ~= '0' then
    offset_ms, limits = string.match(rest, '^(%S+) ?(.*)$')
    offset_ms, limits = tonumber(offset_ms), limits ~= '' and limits or nil
  end
  return {
    per_order = per_order, currency = currency, digits = digits,
    max_coupons = tonumber(max_coupons), keep_ms = keep_ms, gift_book = given(gift_book),
    offset_ms = offset_ms, limits = limits,
  }
end

-- Milliseconds on Redis's clock, moved by a test workspace's offset.
local function clock(workspace)
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000) + workspace.offset_ms
end

-- All but the rest of the settings, `terms`, which the three functions after it read: not every script needs them. They
-- begin with the book's limits, '<misses>/<locks of a user>/<locked percent>', '-' for none (lua/lock.lua).
-- `made`: the text of settings that no book has.
local function read_book(number, made)
  local text = made or redis.call('GET', W .. 'b:' .. number)
  local id, status, from, till, per_code, per_user, total, codes_per_user, assigned, locked, lock_ms, max_lock_ms,
    terms = string.match(text,
    '^%S+ (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (.*)$')
  return {
    number = number, id = id, active = status == 'a', from = tonumber(from), till = tonumber(till),
    per_code = tonumber(per_code), per_user = tonumber(per_user), total = tonumber(total),
    codes_per_user = tonumber(codes_per_user), require_assignment = assigned == '1', require_lock = locked == '1',
    lock_ms = lock_ms, max_lock_ms = max_lock_ms, terms = terms,
  }
end

-- Whether every script can read the settings.
local function is_whole_workspace(text)
  return string.match(text, '^%S+ %d+ %S+ %d %S+ %d+ %S+ %-?%d+') and read_workspace(text).offset_ms
end

local function is_whole_book(book)
  return book.id and string.match(book.lock_ms .. ' ' .. book.max_lock_ms, '^%d+ %d+$')
    and string.match(book.terms, '^%S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+$')
end

-- Below how many free codes the book runs low; nil where it doesn't say.
local function low_of(book) return tonumber((string.match(book.terms, '^%S+ (%S+)'))) end

-- The book that gifts of orders with this book's coupons are of; nil where it names none.
local function gift_book_of(book) return given(string.match(book.terms, '^%S+ %S+ (%S+)')) end

-- The discount, into the book: kind, value, cap, min, currency, digits.
local function read_terms(book)
  local kind, value, cap, min, currency, digits =
    string.match(book.terms, '^%S+ %S+ %S+ (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
  book.kind, book.value, book.cap, book.min = given(kind), value, tonumber(cap), tonumber(min)
  book.currency, book.digits = given(currency), digits
  return book
end
