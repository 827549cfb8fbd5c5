--[[ redo: apply recorded events again, in order, to a Redis that is being mended.
KEYS  1 gate         string  epoch and state, read first
      2 mend         string  how far the mending is
ARGV  1 the mark after these events (`whole` while everything is rebuilt: fill_pool follows), then for each event: decided, and for R '<event id>' and the request's part, else '' and ''
Reply {OK} or {outcome}
Event none
Cost  O(n) in the events, at most 251 of them ]]
-- @include gate unlogged book tally coupon locks place holding orders state

if redis.call('GET', KEYS[1]) ~= OPEN then return { OUT.recovering } end
if ARGV[1] == 'whole' then
  fills_later = true
  leave_unlogged()
end
local touched, last_w = {}, nil

-- A code of the book was redeemed.
local function touch(book)
  if not touched[book] then redis.call('HSET', W .. 'n:' .. book.number, 'touched', 1) end
  touched[book] = true
end

for i = 2, #ARGV, 3 do
  local decided, event, request = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  -- Nearly all are redemptions, which have the most words.
  local kind, w, number, code, user, order, id, discount, at, slot, bucket, order_bucket, max = string.match(decided,
    '^(R) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) %S+ %S+ %S+ (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
  if not kind then kind, w, number, code, user = string.match(decided, '^(%S) (%S+) (%S+) (%S+) (%S+)') end
  if w ~= last_w then W, last_w = '{p' .. PARTITION .. '}:w' .. w .. ':', w end
  local book = read_book(number)
  local text = redis.call('GET', W .. 'c:' .. code)
  if kind == 'A' then
    local at, bucket, order, order_bucket = string.match(decided, '^A %S+ %S+ %S+ %S+ (%S+) (%S+) ?(%S*) ?(%S*)$')
    local gift = order ~= '' and { order = order, bucket = order_bucket } or nil
    apply_assign(read_coupon(code, bucket, text), book, user, at, gift)
  elseif kind == 'U' then
    local at, bucket = string.match(decided, ' (%S+) (%S+)$')
    apply_unassign(read_coupon(code, bucket, text), book, at)
  elseif kind == 'R' then
    local e = { id = id, user = user, order = order, order_bucket = order_bucket, slot = slot, discount = discount,
      at = at, record = event .. ' - - ' .. decided .. ' ' .. request }
    local list = order ~= '-' and places(redis.call('HGET', W .. 'o:' .. order_bucket, order)) or {}
    local c, limit = read_coupon(code, bucket, text), max ~= '0' and tonumber(max) or nil
    touch(book)
    -- The lock that it was under, where this Redis has it still.
    apply_redeem(c, book, limit, e, list, lock_of(c, limit, user, order, tonumber(at)))
  elseif kind == 'B' then
    local id, at, restore = string.match(decided, ' (%S+) (%S+) (%S) %S+ %S+$')
    local e = read_redemption(redis.call('GET', W .. 'r:' .. id))
    local list = e.order ~= '-' and places(redis.call('HGET', W .. 'o:' .. e.order_bucket, e.order)) or {}
    apply_rollback(read_coupon(code, e.bucket, text), book, e, at, restore == '1', list)
  end
end
write_counts()
redis.call('SET', KEYS[2], ARGV[1])
return { OUT.OK }
