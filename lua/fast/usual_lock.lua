-- The usual lock: of a free code with a single use, in a book without a total, under no limit but the user's, whose
-- first lock in the book it is. Where all is as usual this writes. Else it writes nothing, and what follows decides,
-- refusals too.
-- Reads command (redis.pcall), touched (whether the call has marked the book already), gathered (the book's `ends` and
-- `taken` of fast/usual.lua, nil to write at once); is_usual (whether this text knows all settings of the workspace and
-- the book; where it doesn't, nothing else of the book); of fast/settings.lua: keep_ms, sampled_at; of the book:
-- book_id, from, per_user, ended; of fast/lock_end.lua: ms_text, ends_text; where
-- it has a price: usual_currency, usual_digits (fast/settings.lua), discount_type, discount_terms, cap, least,
-- book_currency, book_digits (fast/terms.lua); of the code: number, entry, now, now_text (as text); of the call:
-- fingerprint, code, bucket, user, order, order_bucket, new_token, price, idempotency_key, bucket_key, coupon_key,
-- orders_key, users_key. Leaves held (the lock as text; nil where it isn't usual).
-- For fast/lock.lua and fast/usual.lua. lua/lock.lua decides the rest by the same rules (includes/judging.lua), and
-- includes/place.lua, locking.lua, orders.lua and idempotency.lua write the same texts: change all. It makes no
-- function and no table, which cost most (docs/internals/decisions/0038).

local held
for _ = 1, 1 do -- what isn't usual leaves it
  -- a setting that this doesn't know; the code isn't free, or has a record
  if not is_usual or entry ~= number then break end
  if HOLDER or from ~= '-' and now < from + 0 then break end -- HOLDER: the key limits locks
  if not ends_text then break end -- the book has ended

  local users_locks = per_user ~= '-' and W .. 'lu:' .. number .. ':' .. user
  if users_locks then
    local spent = command('HGET', users_key, number .. '/' .. user)
    if type(spent) == 'table' or command('ZCARD', users_locks) ~= 0 then break end -- or a key of the wrong type
    if (spent and string.match(spent, '^%d+') or 0) - per_user >= 0 then break end
  end
  local hold, view = '', '' -- the price that it holds (includes/pricing.lua), and what its answer says of it
  if price ~= '-' then
    local value, currency, digits, whose = string.match(price, '^(%d+)/(%S+)/(%d)/(%a)/%-$') -- without items
    if not value then break end
    local its_currency, its_digits = book_currency or usual_currency, book_currency and book_digits or usual_digits
    if currency == '-' then
      if digits > its_digits or its_currency ~= usual_currency then break end -- each is one digit
    elseif currency ~= its_currency then
      break
    end
    if least and value - least < 0 then break end
    local saved = '0'
    if discount_type then
      -- @include discounts
      local saved_e4 = discount_of(discount_type, discount_terms, cap, value + 0, '-', its_digits)
      if saved_e4 == 0 then break end
      saved = string.format('%d', saved_e4)
    end
    view = ' ' .. value .. ':' .. its_currency .. ':' .. its_digits .. ':' .. saved
    hold = view .. ':' .. whose .. ':-'
  end
  -- What an entry names the user by: '/' (includes/idempotency.lua).
  if user == code or user == order or user == new_token or user == ends_text or user == ms_text or user == book_id then
    break
  end
  if order ~= '-' and command('HSETNX', orders_key, order, '=' .. bucket .. '/' .. code) ~= 1 then break end
  if not touched and type(command('HSET', W .. 'n:' .. number, 'touched', '1')) ~= 'number' then break end

  local new_entry = number .. '!'
  local lock = new_token
    .. ' '
    .. user
    .. ' '
    .. order
    .. ' '
    .. order_bucket
    .. ' '
    .. ends_text
    .. ' '
    .. now_text
    .. ' '
    .. ended
    .. (users_locks and 'u.' or '.')
    .. hold
  if #new_entry + #lock <= ENTRY_BYTES then
    new_entry = new_entry .. lock -- as in save_coupon of includes/place.lua
  else
    command('SET', coupon_key, '0 - - 0 1 - - - ' .. lock)
  end
  command('HSET', bucket_key, code, new_entry)
  if gathered then
    gathered.taken[bucket], gathered.ends[bucket .. ' ' .. code] = (gathered.taken[bucket] or 0) + 1, ends_text
  else
    local left = command('HINCRBY', W .. 'f:' .. number, bucket, '-1')
    if type(left) == 'number' and left < 1 then command('HDEL', W .. 'f:' .. number, bucket) end
    command('ZADD', W .. 'l:' .. number .. ':u', ends_text, bucket .. ' ' .. code)
  end
  -- The user's only lock there: what removes it, drop_lock of includes/locking.lua or a sweep, removes the key, which
  -- needs no end.
  if users_locks then command('ZADD', users_locks, ends_text, new_token) end
  held = book_id
    .. ' '
    .. code
    .. ' '
    .. user
    .. ' '
    .. order
    .. ' '
    .. new_token
    .. ' '
    .. ends_text
    .. ' '
    .. ms_text
    .. view
  if fingerprint ~= '-' then
    local kept = fingerprint
      .. ' OUT.OK '
      .. book_id
      .. ' '
      .. code
      .. ' / '
      .. order
      .. ' '
      .. new_token
      .. ' '
      .. ends_text
      .. ' '
      .. ms_text
      .. view
    command('SET', idempotency_key, kept, 'PX', keep_ms)
    if sampled_at then
      -- @include gate kept_bytes
      count_sampled(W .. 'y', idempotency_key, kept, sampled_at, keep_ms)
    end
  end
end
