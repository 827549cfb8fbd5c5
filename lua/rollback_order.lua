--[[ rollback_order: take back all redemptions of an order that stand, and its gift unless it was used.
Called by service/engine/operations/rollback.py; with limits it runs within lua/includes/limits.lua
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 orders       hash    order → places
      5 outbox       stream  an event for each
      6 gifts        hash    order → its gift
ARGV  1 fingerprint  2 restore ('1' or '0')  3 request  4 order, then the requested facts
Reply {OK, "record\nrecord…", "book_id book_id …", replayed, rolled_back_at}, {RECALL, events or
      "order:<order>", as_of} or {outcome}
Event B for each redemption, U for the gift
Cost  O(log n) in the coupons' uses, at most 60 commands, 36 for each of at most 100 redemptions, 2 for each of at
      most 400 locks of their coupons that have ended, and 1 for each of at most 100 keys that took locks on the gift ]]
-- @include gate book coupon request
-- @include idempotency facts orders coupon_counts counters locking place redemption outbox events
-- @include rolling gifts assignment
-- @limits

facts_from = ARGS.rollback_order + 1
local reply, workspace, now = open_request(true, false, true)
if reply then return replayed(reply) end
local restore, order = ARGV[2] == '1', entry_of_order(KEYS[4], ARGV[4])
if not order and redis.call('HEXISTS', KEYS[6], ARGV[4]) == 0 then
  -- An order whose places were all given back has no entry: Postgres stores that it once had.
  local known = record_of('order:' .. ARGV[4])
  if known then return { known ~= '' and OUT.already_rolled_back or OUT.order_not_found } end
  lacking = { 'order:' .. ARGV[4] } -- what recall names
  return recall()
end
local coupons, books, standing, events, is_archived = {}, {}, {}, {}, false
for _, p in ipairs(places(order)) do
  local e = not p.kept and facts_of(p.event)
  if e then
    local c = coupons[e.code] or load_coupon(e.code, e.bucket)
    coupons[e.code] = c
    if not c then
      is_archived = true
    else
      standing[#standing + 1], events[#events + 1] = e, e.event
      books[e.book] = books[e.book] or read_book(e.book)
      if books[e.book].status == 'unreadable' then return { OUT.unavailable } end
    end
  end
end
if lacking then return recall() end
local gift, gift_book = gift_of(KEYS[6], ARGV[4])
if gift and gift.uses > 0 then gift = nil end
if gift and gift_book.status == 'unreadable' then return { OUT.unavailable } end
if #events == 0 and not gift then return { is_archived and OUT.book_archived or OUT.already_rolled_back } end

local payload = '@' .. table.concat(events, ',') .. ' ' .. whole(now)
local entry = entry_of(ARGV[1], 'OUT.OK', payload)
local kept, records, book_ids = entry, {}, {}
for i, e in ipairs(standing) do
  local book = books[e.book]
  if not roll_back(e, coupons[e.code], book, now, restore, nil, KEYS[5], ARGV[3], kept) then
    return { OUT.recovering } -- only ever the first: what let that one through lets all
  end
  records[i], book_ids[i], kept = e.record, book.id, nil
end
if order then save_order(KEYS[4], ARGV[4], without_places(order, restore)) end
if gift then
  local event = append(KEYS[5], unassigned_event(gift, gift_book, whole(now), ARGV[4]), ARGV[3], kept)
  if not event then return { OUT.recovering } end
  apply_unassign(gift, gift_book, whole(now))
end
keep_entry(KEYS[3], entry, workspace.keep_ms, workspace.sampled_at)
return { OUT.OK, table.concat(records, '\n'), table.concat(book_ids, ' '), 0, now }
