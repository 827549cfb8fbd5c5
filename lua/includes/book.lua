-- A workspace's and a book's settings as tables (made by service/engine/formats/stored_settings.py). Needs gate.

-- max_coupons and offset_ms are numbers, all else is text; nil for none.
local function read_workspace(settings)
  -- @step workspace
  return {
    per_order = per_order, currency = usual_currency, digits = usual_digits, max_coupons = tonumber(max_coupons),
    keep_ms = keep_ms, gift_book = given(gift_book_id), offset_ms = offset_ms, limits = limits,
  }
end

-- The time in ms on the clock of a workspace (its table).
local function clock(workspace)
  local offset_ms = workspace.offset_ms
  -- @step clock
  return now
end

-- Fields: steps/book_table.lua. made: the settings' text, where the caller has it already; else it is read.
local function read_book(number, made)
  local text = made or redis.call('GET', W .. 'b:' .. number)
  -- @step book
  return book
end

-- Whether every script can read it. The patterns repeat the fields of steps/workspace.lua, book_fields.lua, terms.lua.
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
