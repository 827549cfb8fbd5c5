-- The usual refusals in a call of many requests, of books and codes that a process remembers as sold out
-- (service/hot/sold_out.py, docs/decisions/0058). Needs usual. For lua/many.lua. Settings, time, and a book
-- with its stock or a coupon are read once for the call; of each request its Idempotency-Key, an assignment's user, and
-- a redemption's order. The functions return nil, having written nothing, where the case isn't usual. A refusal in a
-- call of 16 takes 36,000 to 45,000 instructions instead of 150,000 to 210,000.

local function refuse_assignment(settings_key, idempotency_key, fingerprint, book_id, user)
  if fingerprint ~= '-' and command('GET', idempotency_key) then return nil end
  local workspace_read = workspaces[settings_key]
  if workspace_read == nil then workspace_read = read_workspace_once(settings_key) end
  if not workspace_read then return nil end
  local W, now, numbers = workspace_read.prefix, workspace_read.now, workspace_read.numbers or {} -- books' numbers by their ids
  local number = numbers[book_id]
  if not number then
    number = command('HGET', W .. 'x', book_id)
    if type(number) ~= 'string' then return nil end
    numbers[book_id], workspace_read.numbers = number, numbers
  end
  local book = workspace_read.books[number]
  if book == nil then book = read_usual_book(workspace_read, number) end
  if not book then return nil end
  -- @step usual_sold_out
  return refusal and { refusal }
end

-- The book of a code whose uses are spent; false where that isn't usual.
local function read_used_up(workspace_read, code, bucket)
  local W, now = workspace_read.prefix, workspace_read.now
  local coupon_text, entry = command('GET', W .. 'c:' .. code), command('HGET', W .. 'd:' .. bucket, code)
  if type(coupon_text) ~= 'string' or type(entry) ~= 'string' then return false end
  local number = string.match(entry, '^%d+')
  local book = workspace_read.books[number]
  if book == nil then book = read_usual_book(workspace_read, number) end
  if not book then return false end
  -- @step usual_used_up
  return used_up and book
end

-- `order`, '-' for none, to `digits` are a redemption's: a lock is refused without them.
local function refuse_used_up(settings_key, idempotency_key, fingerprint, code, bucket, order, order_bucket, token, currency, digits)
  if fingerprint ~= '-' and command('GET', idempotency_key) then return nil end
  local workspace_read = workspaces[settings_key]
  if workspace_read == nil then workspace_read = read_workspace_once(settings_key) end
  if not workspace_read then return nil end
  local used_up = workspace_read.used_up or {} -- by code: its book, or false
  local book = used_up[code]
  if book == nil then
    book = read_used_up(workspace_read, code, bucket)
    used_up[code], workspace_read.used_up = book, used_up
  end
  if not book then return nil end
  if token then
    if token ~= '-' or book.locked ~= '0' then return nil end
    local its_digits = book.currency and book.digits or workspace_read.digits
    if currency == '-' and digits - its_digits > 0 then return nil end
    if order ~= '-' and command('HGET', workspace_read.prefix .. 'o:' .. order_bucket, order) then return nil end
  end
  return { OUT.coupon_exhausted }
end
