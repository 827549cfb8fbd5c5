--[[ redeem: spend one use of a coupon, once.
Called by service/engine/operations/redeem.py; with limits it runs within lua/includes/limits.lua; lua/many.lua runs it in
     calls with others. service/engine/hot/turns.py and sold_out.py know its arguments by position
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 bucket       hash    code → book
      5 coupon       string  the code's record
      6 orders       hash    order → places
      7 outbox       stream  one event, and S where the book runs low or out
      8 users        hash    book and user → the user's redemption counts
ARGV  1 fingerprint  2 code  3 bucket  4 user  5 user_bucket  6 order  7 order_bucket  8 token  9 value_e4  10 currency
      11 request  12 digits (that the amounts need)  13 items, then the requested facts
Reply {OK|REPEATED, record, book_id, replayed}, of a usual redemption "record\nbook_id";
      {RECALL, events, as_of} or {outcome, retry_ms|figures}
Event R
Cost  O(log n) in the coupon's uses, O(items), at most 42 commands, 3 for each of at most 100 places of the order, and 2 for
      each of at most 20 locks of it that have ended ]]
-- @limits
-- @joined

local passes_full, passes_behind = true, false
local got = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
-- @step enter
if reply then
  -- @include gate book lacking facts replaying
  facts_from = 14 -- ARGV's count + 1: where facts begin (includes/facts.lua)
  return replayed(reply)
end
-- @step find
-- @step book_fields
local fingerprint, code, bucket, user, user_bucket, order, order_bucket, token, value, currency, request, digits, items =
  unpack(ARGV)
local idempotency_key, bucket_key, coupon_key = KEYS[3], KEYS[4], KEYS[5]
local orders_key, outbox, users_key = KEYS[6], KEYS[7], KEYS[8]
-- @step terms
local now_text, workspace, command, gathered = string.format('%d', now), string.match(W, 'w(%d+):$'), redis.pcall, nil
-- @step usual_redeem
if event then -- the usual redemption is done
  local counters = W .. 'n:' .. number
  if spent == '0' then command('HINCRBY', counters, 'users', '1') end
  command('HINCRBY', counters, 'redemptions', '1')
  command('HINCRBY', counters, 'taken', '1')
  command('HINCRBY', counters, 'redeemed', '1')
  if saved_e4 ~= 0 then command('HINCRBY', counters, 'discount', string.format('%d', saved_e4)) end
  -- @step left_codes
  if left and (left <= 0 or low and left < low) then
    -- @include gate outbox crossing
    cross(outbox, { number = number }, now, 'codes', left, 1, low)
  end
  return event .. ' ' .. decided .. ' ' .. request .. '\n' .. book_id
end

-- @include gate coupon counts place
local book
-- @step book_table
-- @step coupon
local users = users_key -- for steps/judge.lua
token, currency = given(token), given(currency)
local order_entry = order ~= '-' and redis.call('HGET', KEYS[6], order)
if order_entry then
  -- @include orders lacking facts coupon
  facts_from = 14 -- ARGV's count + 1: where facts begin (includes/facts.lua)
  -- @step repeated
  if lacking[1] then return recall() end
  if before then
    local outcome, payload = OUT.REPEATED, '@' .. before.event -- for steps/keep.lua
    -- @step keep
    return { OUT.REPEATED, before.record, book.id, 0 }
  end
end
-- @step redeem_refused

-- @step redeemed_event
local at = now -- for steps/redeem.lua
local entry = ARGV[1] ~= '-' and ARGV[1] .. ' OUT.OK @.' -- for steps/append.lua
-- @step append
if not event then return { OUT.recovering } end
if c.uses == 0 and not own then redis.call('HSET', W .. 'n:' .. book.number, 'touched', '1') end
-- @step redeem
local uses = 1 -- for steps/watch_stock.lua
-- @step watch_stock
local payload = '@' .. event
outcome = 'OUT.OK' -- for steps/keep.lua
-- @step keep
return { OUT.OK, event .. ' ' .. decided .. ' ' .. request, book.id, 0 }
