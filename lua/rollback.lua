--[[ rollback: take a redemption back, once.
Called by service/engine/operations/rollback.py; with limits it runs within lua/includes/limits.lua;
     lua/run_requests.lua runs it in calls with others
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 outbox       stream  one event
ARGV  1 fingerprint  2 restore ('1' or '0')  3 request  4 redemption_id  5 event (that its id is made of), then the
      facts that were asked for, '' where there is no such redemption
Reply {OK, record, book_id, replayed, rolled_back_at}, {RECALL, redemption_id or event, as_of} or {outcome}
Event B
Cost  O(log n) in the coupon's uses, at most 46 commands, 140 more where the book has
      budgets, and 3 for each of at most 20 locks of it that have ended ]]
-- @include gate book coupon request
-- @include idempotency facts orders coupon_counts counters locking place redemption outbox events rolling
-- @limits
-- @joined

facts_from = ARGS.rollback + 1
local reply, workspace, now = open_request(true, false, true)
if reply then return replayed(reply) end
local id = ARGV[4]
local record = record_of(id)
if record == '' then return { OUT.redemption_not_found } end
local e = facts_of(record and id or ARGV[5])
if not e or e.workspace ~= workspace_number() or id_of(e) ~= id then
  lacking = { id } -- what recall names
  return recall()
end
local c = load_coupon(e.code, e.bucket)
if not c then return { OUT.book_archived } end -- the code left Redis with its book
if not stands(c, e.event) then return { OUT.already_rolled_back } end
local book, restore = read_book(e.book), ARGV[2] == '1'
if book.status == 'unreadable' then return { OUT.unavailable } end
local payload = '@' .. e.event .. ' ' .. whole(now)
local entry = entry_of(ARGV[1], 'OUT.OK', payload)
local order = e.order ~= '-' and entry_of_order(W .. 'o:' .. e.order_bucket, e.order)
if not roll_back(e, c, book, now, restore, order, KEYS[4], ARGV[3], entry) then return { OUT.recovering } end
keep_entry(KEYS[3], entry, workspace.keep_ms, workspace.sampled_at)
return { OUT.OK, e.record, book.id, 0, now }
