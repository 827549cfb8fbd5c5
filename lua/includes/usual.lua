-- The usual lock and redemption in a call of many requests: settings, time and books are read once, and the counters of
-- redemptions are summed. For lua/many.lua, which passes the arguments of service/hot/turns.py. `usual_lock` and
-- `usual_redeem` return nil, having written nothing, where the case isn't usual.

local command, OUTBOX = redis.pcall, string.sub(KEYS[1], 1, -5) .. 'outbox'
local workspaces = {} -- by the key of their settings, each with its books by number; false where there is none

local function read_workspace_once(settings_key)
  local settings, workspace_read = command('GET', settings_key), false
  if type(settings) == 'string' then
    -- @step workspace
    -- @step clock
    workspace_read = {
      prefix = string.sub(settings_key, 1, -2), workspace = string.match(settings_key, 'w(%d+):w$'), keep_ms = keep_ms,
      currency = usual_currency, digits = usual_digits, limits = limits, now = now, now_text = string.format('%d', now),
      max_coupons = max_coupons, books = {}, numbers = nil, used_up = nil,
    }
  end
  workspaces[settings_key] = workspace_read
  return workspace_read
end

local function read_usual_book(workspace_read, number)
  local text, book = command('GET', workspace_read.prefix .. 'b:' .. number), false
  if type(text) == 'string' then
    -- @step book_fields
    if book_id then
      -- @step terms
      book = {
        id = book_id, status = status, from = from, till = till, per_code = per_code, per_user = per_user, total = total,
        assigned = assigned, locked = locked, lock_ms = lock_ms, max_lock_ms = max_lock_ms, terms = terms, low = low,
        discount_type = discount_type, discount_terms = discount_terms, cap = cap, least = least, currency = book_currency,
        digits = book_digits, number = number, codes_per_user = codes_per_user, touched = false, sums = nil, sold_out = nil,
      }
    end
  end
  workspace_read.books[number] = book
  return book
end

-- The record of the coupon; its entry and book, nil where that is not usual or the request's key is known.
local function read_usual(workspace_read, fingerprint, code, idempotency_key, bucket_key, coupon_key)
  local coupon_text
  if fingerprint == '-' then coupon_text = command('GET', coupon_key)
  else
    local got = command('MGET', idempotency_key, coupon_key)
    if got.err or got[1] then return nil end
    coupon_text = got[2]
  end
  local entry = command('HGET', bucket_key, code)
  if type(coupon_text) == 'table' or type(entry) ~= 'string' then return nil end
  local number = string.match(entry, '^%d+')
  local book = workspace_read.books[number]
  if book == nil then book = read_usual_book(workspace_read, number) end
  return coupon_text, entry, book
end

local function usual_lock(settings_key, idempotency_key, orders_key, users_key,
  fingerprint, code, bucket, user, order, asked_ms, new_token)
  -- @step joined_reads
  local limits = workspace_read.limits
  local lock_ms, max_lock_ms, terms, touched = book.lock_ms, book.max_lock_ms, book.terms, book.touched
  -- @step usual_lock
  if not held then return nil end
  book.touched = true
  return { OUT.OK, held, '', 0 }
end

-- What redemptions of the book change, not written yet; left: its free codes, false where they can't be counted.
local function read_sums(counters)
  -- @step left_codes
  return { redemptions = 0, new_users = 0, saved_e4 = 0, left = left }
end

-- Write what was summed, and forget what another script may change.
local function write_counters()
  for _, workspace_read in pairs(workspaces) do
    for number, book in pairs(workspace_read and workspace_read.books or {}) do
      if book and book.sums then
        local sums, key = book.sums, workspace_read.prefix .. 'n:' .. number
        local by = string.format('%d', sums.redemptions)
        command('HINCRBY', key, 'redemptions', by)
        command('HINCRBY', key, 'taken', by)
        command('HINCRBY', key, 'redeemed', by)
        if sums.new_users > 0 then command('HINCRBY', key, 'users', string.format('%d', sums.new_users)) end
        if sums.saved_e4 > 0 then command('HINCRBY', key, 'discount', string.format('%d', sums.saved_e4)) end
      end
      if book then book.sums, book.touched, book.sold_out = nil, false, nil end
    end
    if workspace_read then workspace_read.used_up = nil end
  end
end

local function usual_redeem(settings_key, idempotency_key,
  fingerprint, code, bucket, user, user_bucket, order, order_bucket, token, value, currency, request, digits, items)
  -- @step joined_reads
  local workspace, locked = workspace_read.workspace, book.locked
  local usual_currency, usual_digits = workspace_read.currency, workspace_read.digits
  local discount_type, discount_terms, cap, least = book.discount_type, book.discount_terms, book.cap, book.least
  local low, book_currency, book_digits = book.low, book.currency, book.digits
  local orders_key, users_key, outbox = W .. 'o:' .. order_bucket, W .. 'o:' .. user_bucket, OUTBOX
  -- @step usual_redeem
  if not event then return nil end
  local sums = book.sums
  if not sums then
    sums = read_sums(W .. 'n:' .. number)
    book.sums = sums
  end
  sums.redemptions = sums.redemptions + 1
  if spent == '0' then sums.new_users = sums.new_users + 1 end
  sums.saved_e4 = sums.saved_e4 + saved_e4
  if sums.saved_e4 > 1e15 then write_counters() end -- a sum past 2^53 is not exact
  local left = sums.left
  if left then
    left = left - 1
    sums.left = left
    if left <= 0 or low and left < low then
      -- @include gate outbox crossing
      cross(outbox, book, now, 'codes', left, 1, low)
    end
  end
  return { OUT.OK, event .. ' ' .. decided .. ' ' .. request, book_id, 0 }
end
