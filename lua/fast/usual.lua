-- The usual lock and redemption in a call of many requests. Settings, time and books are read once, and the end of a
-- book's locks is reckoned once (3,000 instructions less a lock); the keys of all requests are read in one command;
-- counters of redemptions are summed, and what changes a book's free codes and locks is gathered. For
-- lua/run_requests.lua, which passes the places of keys in `got`, then keys and arguments as the scripts have them.
-- `usual_lock` and `usual_redeem` return nil, having written nothing, where the case isn't usual.

local command, OUTBOX = redis.pcall, string.sub(KEYS[1], 1, -5) .. 'outbox'
local workspaces = {} -- by the place of their settings, each with its books by number; false where there is none
local got -- by place the text of a key, false for none, nil where a script may have changed it

local function read_workspace_once(settings_at, settings_key)
  local settings, workspace_read = got[settings_at], false
  if settings then
    -- @step settings
    workspace_read = not full
      and { -- in a full workspace each request's own script decides
        sampled_at = sampled_at,
        prefix = string.sub(settings_key, 1, -2),
        workspace = string.match(settings_key, 'w(%d+):w$'),
        keep_ms = keep_ms,
        currency = usual_currency,
        digits = usual_digits,
        usual = usual,
        now = now,
        now_text = string.format('%d', now),
        max_coupons = max_coupons,
        books = {},
        numbers = nil,
        used_up = nil,
      }
  end
  workspaces[settings_at] = workspace_read
  return workspace_read
end

local function read_usual_book(workspace_read, number)
  local text, book = command('GET', workspace_read.prefix .. 'b:' .. number), false
  if type(text) == 'string' then
    -- @step book_fields
    if book_id then
      local discount_type, discount_terms, cap, least, book_currency, book_digits
      -- @step terms
      local usual_workspace = workspace_read.usual == '{workspace usual}'
      local is_passed = usual_workspace or workspace_read.usual == '{workspace limited}'
      local function number_of(text) return tonumber(text) or text end -- once for the requests of a call
      book = {
        is_lock_usual = for_lock == 'l' and usual_workspace,
        is_redeem_usual = for_redeem == 'r' and is_passed,
        is_used_up_usual = for_used_up == 'x' and is_passed,
        is_sold_out_usual = for_sold_out == 's' and is_passed,
        id = book_id,
        from = number_of(from),
        till = number_of(till),
        per_user = number_of(per_user),
        locked = locked,
        lock_ms = lock_ms,
        max_lock_ms = max_lock_ms,
        ended = ended,
        low = tonumber(low),
        discount_type = discount_type,
        discount_terms = number_of(discount_terms),
        cap = cap,
        least = least,
        currency = book_currency,
        digits = book_digits,
        number = number,
        codes_per_user = codes_per_user,
        touched = false,
        sums = nil,
        sold_out = nil,
        ends = {},
        taken = {},
        ms_text = nil,
        ends_text = nil,
      }
    end
  end
  workspace_read.books[number] = book
  return book
end

local function usual_lock(
  settings_at,
  entry_at,
  settings_key,
  idempotency_key,
  bucket_key,
  coupon_key,
  orders_key,
  users_key,
  fingerprint,
  code,
  bucket,
  user,
  order,
  order_bucket,
  asked_ms,
  new_token,
  price
)
  -- @step joined_reads
  local is_usual, usual_currency, usual_digits = book.is_lock_usual, nil, nil
  local discount_type, discount_terms, cap, least, book_currency, book_digits
  if price ~= '-' then
    usual_currency, usual_digits = workspace_read.currency, workspace_read.digits
    discount_type, discount_terms, cap, least = book.discount_type, book.discount_terms, book.cap, book.least
    book_currency, book_digits = book.currency, book.digits
  end
  local ms_text, ends_text, ended, touched = book.ms_text, book.ends_text, book.ended, book.touched
  if asked_ms ~= '-' or not ms_text then -- else as an earlier one of the call
    local lock_ms, max_lock_ms = book.lock_ms, book.max_lock_ms
    -- @step lock_end
    if asked_ms == '-' then
      book.ms_text, book.ends_text = ms_text, ends_text
    end
  end
  -- @step usual_lock
  if not held then return nil end
  book.touched, got[entry_at] = true, fingerprint ~= '-'
  return held
end

-- What redemptions of the book change, not written yet; left: its free codes, false where they can't be counted.
local function read_sums(counters)
  -- @include counters
  return { redemptions = 0, new_users = 0, low = 0, high = 0, left = free_left(counters) }
end

local function write_sums(sums, counters)
  local by = string.format('%d', sums.redemptions)
  command('HINCRBY', counters, 'redemptions', by)
  command('HINCRBY', counters, 'taken', by)
  command('HINCRBY', counters, 'redeemed', by)
  if sums.new_users > 0 then command('HINCRBY', counters, 'users', string.format('%d', sums.new_users)) end
  if sums.low > 0 then command('HINCRBY', counters, 'discount', string.format('%d', sums.low)) end
  if sums.high > 0 then command('HINCRBY', counters, 'discountHigh', string.format('%d', sums.high)) end
end

-- ends: by '<bucket> <code>' when its lock ends, false where it was redeemed.
local function write_ends(ends, key)
  local added, removed = {}, {}
  for member, deadline in pairs(ends) do
    if deadline then
      added[#added + 1] = deadline
      added[#added + 1] = member
    else
      removed[#removed + 1] = member
    end
  end
  if added[1] then command('ZADD', key, unpack(added)) end
  if removed[1] then command('ZREM', key, unpack(removed)) end
end

-- taken: by bucket how many of its free codes were taken.
local function write_taken(taken, key)
  local buckets, stay, go = {}, {}, {}
  for bucket in pairs(taken) do
    buckets[#buckets + 1] = bucket
  end
  local counts = command('HMGET', key, unpack(buckets))
  if counts.err then return end -- of the wrong type
  for at, bucket in ipairs(buckets) do
    local left = (counts[at] or 0) - taken[bucket]
    if left > 0 then
      stay[#stay + 1] = bucket
      stay[#stay + 1] = string.format('%d', left)
    else
      go[#go + 1] = bucket
    end
  end
  if stay[1] then command('HSET', key, unpack(stay)) end
  if go[1] then command('HDEL', key, unpack(go)) end
end

-- Write what was gathered, and forget what another script may change of books.
local function write_gathered()
  for _, workspace_read in pairs(workspaces) do
    for number, book in pairs(workspace_read and workspace_read.books or {}) do
      if book then
        local W = workspace_read.prefix
        if book.sums then write_sums(book.sums, W .. 'n:' .. number) end
        if next(book.ends) then write_ends(book.ends, W .. 'l:' .. number .. ':u') end
        if next(book.taken) then write_taken(book.taken, W .. 'f:' .. number) end
        book.sums, book.ends, book.taken, book.touched, book.sold_out = nil, {}, {}, false, nil
      end
    end
    if workspace_read then workspace_read.used_up = nil end
  end
end

local function usual_redeem(
  settings_at,
  entry_at,
  settings_key,
  idempotency_key,
  bucket_key,
  coupon_key,
  orders_key,
  outbox,
  users_key,
  fingerprint,
  code,
  bucket,
  user,
  user_bucket,
  order,
  order_bucket,
  token,
  value,
  currency,
  request,
  digits,
  items,
  asks
)
  -- @step joined_reads
  local is_usual, workspace, locked, ended = book.is_redeem_usual, workspace_read.workspace, book.locked, book.ended
  local usual_currency, usual_digits = workspace_read.currency, workspace_read.digits
  local discount_type, discount_terms, cap, least = book.discount_type, book.discount_terms, book.cap, book.least
  local low, book_currency, book_digits = book.low, book.currency, book.digits
  -- @step usual_redeem
  if not event then return nil end
  got[entry_at] = fingerprint ~= '-'
  local sums = book.sums
  if not sums then
    sums = read_sums(W .. 'n:' .. number)
    book.sums = sums
  end
  sums.redemptions = sums.redemptions + 1
  if is_first then sums.new_users = sums.new_users + 1 end
  -- @step discount_parts
  sums.low, sums.high = sums.low + low_part, sums.high + high_part
  local left = sums.left
  if left then
    left = left - 1
    sums.left = left
    if left <= 0 or low and left < low then
      -- @include gate outbox crossing
      cross(outbox, number, now, 'codes', left, 1, low)
    end
  end
  return event .. ' ' .. decided .. ' ' .. request .. '\n' .. book_id
end
