-- The usual redemption: of a code with a single use that is free, or that the user has locked for the order, in a
-- book without a total. Where all is as usual this writes all but the counters. Else it writes nothing, and what
-- follows decides, refusals too.
-- Reads command (redis.pcall), gathered, is_usual (as fast/usual_lock.lua), workspace (its number); of
-- fast/settings.lua: usual_currency, usual_digits, keep_ms, sampled_at; of the book: from, till, per_user, locked,
-- ended, discount_type, discount_terms, cap, least, book_currency, book_digits; of the code: number, entry, now,
-- now_text (as text); as lua/redeem.lua names arguments and keys: fingerprint, code, bucket, user, user_bucket, order,
-- order_bucket, token, value, currency, request, digits, items, asks, idempotency_key, bucket_key, coupon_key,
-- orders_key, outbox, users_key. Leaves event (nil where it isn't usual), decided, saved_e4 (the discount), is_first
-- (whether the user had redeemed no code of the book).
-- For fast/redeem.lua and fast/usual.lua, which write the counters. lua/redeem.lua decides the rest by the same rules
-- (includes/judging.lua), and includes/outbox.lua, redemption.lua, place.lua, locking.lua and idempotency.lua write the
-- same texts: change all.

local event, decided, saved_e4, is_first = nil, nil, 0, false
for _ = 1, 1 do -- what isn't usual leaves it
  if not is_usual or asks ~= '-' and asks ~= '-/u' then break end -- a setting that this doesn't know
  if from ~= '-' and now < from + 0 or till ~= '-' and now >= till + 0 then break end
  local its_token, its_ends, its_ended, counted, in_record, hold
  if entry ~= number then -- a lock alone, as save_coupon of includes/place.lua writes it
    in_record = string.byte(entry, -1) == 33 -- '!'
    local text, head = entry, number .. '!'
    if in_record then
      text, head = command('GET', coupon_key), '0 - - 0 1 - - - '
    end
    if type(text) ~= 'string' then break end -- missing, or of the wrong type
    its_token = token == '-' and string.match(text, '^%S+', #head + 1) or token
    head = head .. its_token .. ' ' .. user .. ' ' .. order .. ' ' .. order_bucket .. ' '
    if string.find(text, head, 1, true) ~= 1 then break end
    its_ends, its_ended, counted, hold = string.match(text, '^(%d+) %d+ (%d*)(u?%.)(.*)$', #head + 1)
    if its_ended ~= ended or its_ends - now <= 0 then break end
  elseif token ~= '-' or locked ~= '0' then
    break
  end

  local its_value, its_currency, its_digits, saved = value, nil, nil, nil
  if hold and hold ~= '' then -- the lock's price, where the request says the same or nothing
    local whose, its_items
    its_value, its_currency, its_digits, saved, whose, its_items =
      string.match(hold, '^ (%d+):(%a+):(%d):(%d+):(%a):(.*)$')
    if not saved then break end -- counted also says which key holds the lock
    if value ~= its_value and (value ~= '-' or whose == 'u' and asks == '-') then break end
    if currency ~= '-' and currency ~= its_currency or items ~= '-' and items ~= its_items then break end
  else
    its_currency, its_digits = book_currency or usual_currency, book_currency and book_digits or usual_digits
    if currency == '-' then
      if digits > usual_digits or value ~= '-' and its_currency ~= usual_currency then break end -- each is one digit
      if items ~= '-' then
        -- @include pricing
        if misfit_of({ value = value, items = items, digits = digits }, usual_currency, usual_digits) then break end
      end
    elseif currency ~= its_currency then
      break
    end
    if value == '-' then
      if discount_type then break end
    elseif least and value - least < 0 then
      break
    end
  end
  if order ~= '-' then
    local known = command('HGET', orders_key, order)
    -- the mark of this code's lock (includes/orders.lua)
    if known and known ~= '=' .. bucket .. '/' .. code then break end
  end

  local is_once = per_user ~= '-' and per_user - 1 == 0
  if per_user ~= '-' then
    local live = counted ~= 'u.' and command('ZCOUNT', W .. 'lu:' .. number .. ':' .. user, '(' .. now_text, '+inf')
      or 0
    local before = not is_once and command('HGET', users_key, number .. '/' .. user) or '0'
    if type(live) == 'table' or type(before) ~= 'string' or not string.find(before, '^%d+$') then break end
    if before + live >= per_user + 0 then break end
  end
  if saved then
    saved_e4 = saved + 0
  elseif discount_type then
    -- @include discounts
    saved_e4 = discount_of(discount_type, discount_terms, cap, value + 0, items, its_digits)
    if saved_e4 == 0 then break end
    saved = string.format('%d', saved_e4)
  end
  -- As redeemed_event of includes/redemption.lua.
  decided = 'R '
    .. workspace
    .. ' '
    .. number
    .. ' '
    .. code
    .. ' '
    .. user
    .. ' '
    .. order
    .. ' '
    .. its_value
    .. ' '
    .. its_currency
    .. ' '
    .. its_digits
    .. ' '
    .. (saved or '0')
    .. ' '
    .. now_text
    .. (order == '-' and ' 0 ' or ' 1 ')
    .. bucket
    .. ' '
    .. order_bucket
    .. ' 1 - - '
    .. user_bucket

  -- Where each user may redeem once, HSETNX judges and counts: 0 where the user has a count. HINCRBY is an error where
  -- some were rolled back.
  local count = command(is_once and 'HSETNX' or 'HINCRBY', users_key, number .. '/' .. user, '1')
  if type(count) ~= 'number' or count == 0 then break end
  local kept = fingerprint == '-' and '' or '\n' .. fingerprint .. ' OUT.OK @.'
  local added = command('XADD', outbox, 'NOMKSTREAM', EPOCH .. '-*', 'e', decided .. '\n' .. request .. kept)
  if type(added) ~= 'string' then -- fenced, or no memory
    if count == 1 then
      command('HDEL', users_key, number .. '/' .. user)
    else
      command('HINCRBY', users_key, number .. '/' .. user, '-1')
    end
    break
  end
  event, is_first = added, count == 1
  if order ~= '-' then command('HSET', orders_key, order, event) end
  command('HSET', bucket_key, code, number .. '!' .. event)
  if its_token then
    if in_record then command('DEL', coupon_key) end
    if gathered then
      gathered.ends[bucket .. ' ' .. code] = false
    else
      command('ZREM', W .. 'l:' .. number .. ':u', bucket .. ' ' .. code)
    end
    if counted == 'u.' then command('ZREM', W .. 'lu:' .. number .. ':' .. user, its_token) end
  else
    command('HSET', W .. 'n:' .. number, 'touched', '1')
    if gathered then
      gathered.taken[bucket] = (gathered.taken[bucket] or 0) + 1
    else
      local left = command('HINCRBY', W .. 'f:' .. number, bucket, '-1')
      if type(left) == 'number' and left < 1 then command('HDEL', W .. 'f:' .. number, bucket) end
    end
  end
  if fingerprint ~= '-' then
    command('SET', idempotency_key, fingerprint .. ' OUT.OK @' .. event, 'PX', keep_ms)
    if sampled_at then
      -- @include gate kept_bytes
      count_sampled(W .. 'y', idempotency_key, string.sub(kept, 3) .. event, sampled_at, keep_ms)
    end
  end
end
