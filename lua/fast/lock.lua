-- How lua/lock.lua starts: it reads what each lock needs, and decides the usual one. Reads passes_full, passes_behind.
-- Leaves named, now, now_text (as text), per_order, usual_currency, usual_digits, keep_ms, sampled_at, limits (fast/settings.lua); number, entry, book_id, status,
-- from, till, per_code, per_user, total, assigned, locked, lock_ms, max_lock_ms, ended, terms (fast/book_fields.lua);
-- discount_type, discount_terms, cap, least, book_currency, book_digits (fast/terms.lua); of the call: fingerprint,
-- code, bucket, user, order, order_bucket, asked_ms, new_token, price, idempotency_key, coupon_key, orders_key, users_key.
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
-- @step book_fields
local fingerprint, code, bucket, user, order, order_bucket, asked_ms, new_token, price = unpack(ARGV)
local idempotency_key, bucket_key, coupon_key, orders_key, users_key = KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local low, discount_type, discount_terms, cap, least, book_currency, book_digits -- of a usual lock with a price alone
if price ~= '-' then
  -- @step terms
end
local touched, gathered, now_text, command, ms_text, ends_text = false, nil, string.format('%d', now), redis.pcall, nil, nil
-- @step lock_end
-- @step usual_lock
if held then return held end
if price == '-' then
  -- @step terms
end
