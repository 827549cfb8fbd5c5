--[[ redo: apply recorded events again, in order, to a Redis that is being mended.
KEYS  1 gate         string  epoch and state, read first
      2 mend         string  how far the mending is
ARGV  1 the mark after these events (`whole` while everything is rebuilt: fill_pool follows), then for each event:
      decided; of R its id; of B the redemption's event, "discount_e4 user_bucket"; else ''
Reply {OK, how many were of codes that are not here} or {outcome}
Event none
Cost  at most 4 commands, 26 for each of at most 251 events, and 2 for each of at most 20 locks of a coupon that have ended ]]
-- @include gate unlogged book tally coupon locks place holding orders state

if redis.call('GET', KEYS[1]) ~= OPEN then return { OUT.recovering } end
if ARGV[1] == 'whole' then
  fills_later = true
  leave_unlogged()
end
-- A Postgres that lost its end may lack the newest codes, and have got from Redis what happened to them.
local unknown = 0
local touched, last_w = {}, nil
local BUCKET = { -- kind, w, book, code, user and the code's bucket of the others
  A = '^(A) (%S+) (%S+) (%S+) (%S+) %S+ (%S+)', U = '^(U) (%S+) (%S+) (%S+) (%S+) %S+ (%S+)$',
  B = '^(B) (%S+) (%S+) (%S+) (%S+) %S+ %S+ %S+ %S+ (%S+) %S+$',
}

-- A code of the book was redeemed.
local function touch(book)
  if not touched[book] then redis.call('HSET', W .. 'n:' .. book.number, 'touched', 1) end
  touched[book] = true
end

local function places_of(e) return e.order ~= '-' and redis.call('HGET', W .. 'o:' .. e.order_bucket, e.order) end

for i = 2, #ARGV, 3 do
  local decided, event, more = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  -- Nearly all are redemptions, which have the most words.
  local kind, w, number, code, user, order, discount, at, slot, bucket, order_bucket, max, user_bucket = string.match(
    decided, '^(R) (%S+) (%S+) (%S+) (%S+) (%S+) %S+ %S+ %S+ %S+ (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
  if not kind then kind, w, number, code, user, bucket = string.match(decided, BUCKET[string.sub(decided, 1, 1)]) end
  if w ~= last_w then W, last_w = '{p' .. PARTITION .. '}:w' .. w .. ':', w end
  local c = load_coupon(code, bucket)
  local book = c and read_book(number)
  if not c then
    unknown = unknown + 1
  elseif kind == 'A' then
    local at, order, order_bucket = string.match(decided, '^A %S+ %S+ %S+ %S+ (%S+) %S+ ?(%S*) ?(%S*)$')
    apply_assign(c, book, user, at, order ~= '' and { order = order, bucket = order_bucket } or nil)
  elseif kind == 'U' then
    apply_unassign(c, book, string.match(decided, ' (%S+) %S+$'))
  elseif kind == 'R' then
    local e = { event = event, user = user, user_bucket = user_bucket, order = order, order_bucket = order_bucket,
      slot = slot, discount = discount, at = at }
    local limit = max ~= '0' and tonumber(max) or nil
    touch(book)
    -- The lock that it was under, where this Redis has it still.
    apply_redeem(c, book, limit, e, places_of(e), lock_of(c, limit, user, order, tonumber(at)))
  elseif kind == 'B' then
    local order, at, restore, order_bucket = string.match(decided, '^B %S+ %S+ %S+ %S+ (%S+) %S+ (%S+) (%S) %S+ (%S+)$')
    local discount, user_bucket = string.match(more, '^(%S+) (%S+)$')
    local e = { event = event, user = user, user_bucket = user_bucket, order = order, order_bucket = order_bucket,
      discount = discount }
    apply_rollback(c, book, e, at, restore == '1', places_of(e))
  end
end
write_counts()
redis.call('SET', KEYS[2], ARGV[1])
return { OUT.OK, unknown }
