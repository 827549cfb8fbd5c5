-- The usual refusals in a call of many requests, of books and codes that a process remembers as sold out
-- (service/engine/hot/sold_out.py, docs/internals/decisions/0058). Needs usual. For lua/run_requests.lua. Settings,
-- time, and a book with its stock or a coupon are read once for the call; of each request an assignment's user, and a
-- redemption's order. The functions return nil, having written nothing, where the case isn't usual. A refusal in a call
-- of 16 takes 25,000 to 38,000 instructions instead of 140,000 to 210,000.

local function refuse_assignment(settings_at, entry_at, settings_key, _, books_key, _, _, book_id, user)
  if got[entry_at] then return nil end
  local workspace_read = workspaces[settings_at]
  if workspace_read == nil then workspace_read = read_workspace_once(settings_at, settings_key) end
  if not workspace_read then return nil end
  -- books' numbers by their ids
  local W, now, numbers = workspace_read.prefix, workspace_read.now, workspace_read.numbers or {}
  local number = numbers[book_id]
  if not number then
    number = command('HGET', books_key, book_id)
    if type(number) ~= 'string' then return nil end
    numbers[book_id], workspace_read.numbers = number, numbers
  end
  local book = workspace_read.books[number]
  if book == nil then book = read_usual_book(workspace_read, number) end
  if not book then return nil end
  -- @step usual_sold_out
  return refusal
end

local function read_used_up(workspace_read, bucket_key, coupon_key, code)
  local now, coupon_text, entry = workspace_read.now, command('GET', coupon_key), command('HGET', bucket_key, code)
  if type(coupon_text) ~= 'string' or type(entry) ~= 'string' then return false end
  local number = string.match(entry, '^%d+')
  local book = workspace_read.books[number]
  if book == nil then book = read_usual_book(workspace_read, number) end
  if not book then return false end
  -- @step usual_used_up
  return used_up and book
end

-- The book of a code whose uses are spent, and its workspace; nil or false where that isn't usual.
local function find_used_up(settings_at, entry_at, settings_key, bucket_key, coupon_key, code)
  if got[entry_at] then return nil end
  local workspace_read = workspaces[settings_at]
  if workspace_read == nil then workspace_read = read_workspace_once(settings_at, settings_key) end
  if not workspace_read then return nil end
  local used_up = workspace_read.used_up or {} -- by code: its book, or false
  local book = used_up[code]
  if book == nil then
    book = read_used_up(workspace_read, bucket_key, coupon_key, code)
    used_up[code], workspace_read.used_up = book, used_up
  end
  return book, workspace_read
end

local function refuse_lock(
  settings_at,
  entry_at,
  settings_key,
  _,
  bucket_key,
  coupon_key,
  _,
  _,
  _,
  code,
  _,
  _,
  _,
  _,
  _,
  _,
  price
)
  return price == '-'
    and find_used_up(settings_at, entry_at, settings_key, bucket_key, coupon_key, code)
    and OUT.coupon_exhausted
end

local function refuse_redemption(
  settings_at,
  entry_at,
  settings_key,
  _,
  bucket_key,
  coupon_key,
  orders_key,
  _,
  _,
  _,
  code,
  _,
  _,
  _,
  order,
  _,
  token,
  _,
  currency,
  _,
  digits,
  items
)
  local book, workspace_read = find_used_up(settings_at, entry_at, settings_key, bucket_key, coupon_key, code)
  if not book or token ~= '-' or book.locked ~= '0' or items ~= '-' then return nil end
  if currency == '-' and digits - workspace_read.digits > 0 then return nil end
  if order ~= '-' and command('HGET', orders_key, order) then return nil end
  return OUT.coupon_exhausted
end
