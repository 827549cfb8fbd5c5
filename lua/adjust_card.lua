--[[ adjust_card: credit a card with an amount, or close it, which takes what is available.
Called by service/engine/operations/cards.py; with limits it runs within lua/includes/limits.lua; lua/run_requests.lua
     runs it in calls with others
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 bucket       hash    code → book
      5 coupon       string  the code's record
      6 outbox       stream  one event, and S where the book runs low or out
ARGV  1 fingerprint  2 code  3 bucket  4 request  5 amount_e4 ('-' to close it), then the requested facts
Reply {OK, view, "", replayed}, {RECALL, events, as_of} or {outcome, retry_ms|figures}
Event C
Cost  O(log n) in the card's live locks, at most 54 commands, and 2 for each of at most 20 locks of it that have
      ended ]]
-- @include gate book coupon request
-- @include idempotency retry_after view coupon_counts outbox counters discount_sum cards
-- @limits
-- @joined

local MOST = 1e15 -- what a card was ever given stays below it, as any amount does
facts_from = ARGS.adjust_card + 1
local reply, workspace, now = open_request(true, false, true)
if reply then return reply end
local c, book, max = find_coupon(KEYS[4], KEYS[5], ARGV[2], ARGV[3])
if not c then return { OUT.coupon_not_found } end
if book.status == 'unreadable' then return { OUT.unavailable } end
local amount = tonumber(ARGV[5])
if book.discount ~= 'balance' then return { OUT.invalid, amount and 'amount' or 'card' } end
local account = account_of(c)
local funds, held, is_known = read_funds(c, now)
if amount then
  local misfit = misfit_of_amount(amount, book, book.currency, book.digits)
  if misfit then return { OUT.invalid, misfit } end
  if account.issued + account.credited + amount >= MOST then return { OUT.invalid, 'amount/' .. whole(amount) } end
  if not is_known then return { OUT.unavailable } end
elseif held > 0 then
  return { OUT.coupon_locked, retry_after(c, max, now) }
end

-- The view afterwards, of a copy: nothing is changed before the event is written.
local kind, by = amount and 'credited' or 'closed', amount or funds
local after = {}
for name, value in pairs(c) do
  after[name] = value
end
after.account = {}
for name, value in pairs(account) do
  after.account[name] = value
end
after.account[kind] = account[kind] + by
local payload = view(after, book, now)
if lacking then -- view adds the events whose facts it lacks
  -- @include facts
  return recall()
end
if by == 0 then return { OUT.OK, payload, '', 0 } end -- closed already: nothing is done, so nothing is stored
local entry = entry_of(ARGV[1], 'OUT.OK', payload)
-- @include locking place events crediting
local decided = balance_event(c, book, kind, by, amount and funds - held + by or 0, whole(now))
if not append(KEYS[6], decided, ARGV[4], entry) then return { OUT.recovering } end
watch_stock(KEYS[6], book, now, apply_balance(c, book, kind, by, now), 0)
keep_entry(KEYS[3], entry, workspace.keep_ms, workspace.sampled_at)
return { OUT.OK, payload, '', 0 }
