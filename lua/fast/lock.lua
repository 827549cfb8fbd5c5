-- How lua/lock.lua starts: it reads what each lock needs, and decides the usual one. Reads passes_full, passes_behind.
-- Leaves named, now, now_text (as text), per_order, usual_currency, usual_digits, keep_ms, sampled_at, limits
-- (fast/settings.lua); number, entry, text (the book's settings); of the call: fingerprint, code, bucket, user, order,
-- order_bucket, asked_ms, new_token, price, idempotency_key, coupon_key, orders_key, users_key.
-- For lua/lock.lua.

named = ARGV[4] -- the user (includes/idempotency.lua)
local got = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
-- @step enter
if reply and reply[4] then
  -- @include gate book coupon locks repeats storage
  reply = while_locked(reply, now) or full and refuse_full(full, passes_full)
end
if reply then return reply end
local entry = redis.call('HGET', KEYS[4], ARGV[2])
if not entry then return { OUT.coupon_not_found } end
local number = string.match(entry, '^%d+')
local text = redis.call('GET', W .. 'b:' .. number)
-- Nothing is read of a book with a setting that usual locks don't know.
local book_id, from, till, per_user, lock_ms, max_lock_ms, ended, terms =
  string.match(text, '{book l: id from till per_user lock_ms max_lock_ms ended *discount}')
local is_usual = book_id and usual == '{workspace usual}'
local fingerprint, code, bucket, user, order, order_bucket, asked_ms, new_token, price = unpack(ARGV)
local idempotency_key, bucket_key, coupon_key, orders_key, users_key = KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local discount_type, discount_terms, cap, least, book_currency, book_digits -- of a usual lock with a price alone
if is_usual and price ~= '-' then
  -- @step terms
end
local touched, gathered, now_text, command, ms_text, ends_text =
  false, nil, string.format('%d', now), redis.pcall, nil, nil
if is_usual then
  -- @step lock_end
end
-- @step usual_lock
if held then return held end
