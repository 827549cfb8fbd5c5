--[[ rollback_order: take back all redemptions of an order that stand, and its gift unless it was used.
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 orders       hash    order → places
      5 outbox       stream  an event for each
      6 gifts        hash    order → its gift
ARGV  1 fingerprint  2 restore ('1' or '0')  3 request  4 order
Reply {OK, "record\nrecord…", "book_id book_id …", replayed} or {outcome}
Event B for each redemption, U for the gift
Cost  O(k log n) in the order's k redemptions and their coupons' uses, at most 30 commands each,
      and in the locks on the gift ]]
-- @include gate outbox book coupon locks counts place holding idempotency orders state rolling gifts

local got = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
local reply, workspace, now = enter(got, true, false)
if reply then return reply end
local entry = redis.call('HGET', KEYS[4], ARGV[4])
if not entry and redis.call('HEXISTS', KEYS[6], ARGV[4]) == 0 then return { OUT.order_not_found } end
local ids = {}
for _, p in ipairs(places(entry)) do
  if p.state == 's' then ids[#ids + 1] = p.id end
end
local gift, gift_book = gift_of(KEYS[6], ARGV[4])
if gift and gift.uses > 0 then gift = nil end
if #ids == 0 and not gift then return { OUT.already_rolled_back } end

local kept = ARGV[1] ~= '-' and ARGV[1] .. ' ' .. OUT.OK .. ' @' .. table.concat(ids, ',') or nil
local records, books = {}, {}
for i, id in ipairs(ids) do
  local e = read_redemption(redis.call('GET', W .. 'r:' .. id))
  records[i] = roll_back(e, now, ARGV[2] == '1', KEYS[5], ARGV[3], kept)
  if not records[i] then return { OUT.recovering } end -- only ever the first: what let that one through lets all
  books[i] = read_book(e.book).id
  kept = nil
end
if gift then
  local event = append(KEYS[5], 'U ' .. workspace_number() .. ' ' .. gift_book.number .. ' ' .. gift.code .. ' '
    .. gift.user .. ' ' .. now .. ' ' .. gift.bucket, ARGV[3], kept)
  if not event then return { OUT.recovering } end
  apply_unassign(gift, gift_book, now)
end
if ARGV[1] ~= '-' then keep(KEYS[3], ARGV[1], OUT.OK, '@' .. table.concat(ids, ','), workspace) end
return { OUT.OK, table.concat(records, '\n'), table.concat(books, ' '), 0 }
