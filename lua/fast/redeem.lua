-- How lua/redeem.lua starts: it reads what each redemption needs, and decides the usual one. Reads passes_full,
-- passes_behind, named (nil). Leaves now, per_order, usual_currency, usual_digits, keep_ms, sampled_at
-- (fast/settings.lua); number, entry, text (the book's settings); of the call: fingerprint, code, bucket, user,
-- user_bucket, order, order_bucket, token, value, currency, request, digits, items, asks, idempotency_key, coupon_key,
-- orders_key, outbox, users_key. For lua/redeem.lua.

local got = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
-- @step enter
if reply then
  -- @include gate book coupon events facts repeats
  facts_from = ARGS.redeem + 1
  return reply[4] and while_redeemed(reply) or reply
end
local entry = redis.call('HGET', KEYS[4], ARGV[2])
if not entry then return { OUT.coupon_not_found } end
local number = string.match(entry, '^%d+')
local text = redis.call('GET', W .. 'b:' .. number)
-- Nothing is read of a book with a setting that usual redemptions don't know.
-- stylua: ignore
local book_id, from, till, per_user, locked, ended, low, discount_type, discount_terms, cap, least, book_currency,
  book_digits =
  string.match(
    text,
    '{book r: id from till per_user require_lock ended low discount discount_terms cap least currency digits}'
  )
local is_usual = book_id and (usual == '{workspace usual}' or usual == '{workspace limited}')
low, cap, least = tonumber(low), tonumber(cap), tonumber(least)
if discount_type == '-' then discount_type = nil end
if book_currency == '-' then book_currency = nil end
-- stylua: ignore
local fingerprint, code, bucket, user, user_bucket, order, order_bucket, token, value, currency, request, digits,
  items, asks = unpack(ARGV)
local idempotency_key, bucket_key, coupon_key = KEYS[3], KEYS[4], KEYS[5]
local orders_key, outbox, users_key = KEYS[6], KEYS[7], KEYS[8]
local now_text, workspace, command, gathered = string.format('%d', now), string.match(W, 'w(%d+):$'), redis.pcall, nil
-- @step usual_redeem
if event then -- the usual redemption is done
  local counters = W .. 'n:' .. number
  if is_first then command('HINCRBY', counters, 'users', '1') end
  command('HINCRBY', counters, 'redemptions', '1')
  command('HINCRBY', counters, 'taken', '1')
  command('HINCRBY', counters, 'redeemed', '1')
  if saved_e4 ~= 0 then
    -- @step discount_parts
    if low_part > 0 then command('HINCRBY', counters, 'discount', string.format('%d', low_part)) end
    if high_part > 0 then command('HINCRBY', counters, 'discountHigh', string.format('%d', high_part)) end
  end
  -- @include counters
  local left = free_left(counters)
  if left and (left <= 0 or low and left < low) then
    -- @include gate outbox crossing
    cross(outbox, number, now, 'codes', left, 1, low)
  end
  return event .. ' ' .. decided .. ' ' .. request .. '\n' .. book_id
end
