--[[ assign_any: give a user a random free coupon of a book.
Called by service/engine/operations/assign.py; with limits it runs within lua/includes/limits.lua; lua/run_requests.lua
     runs it in calls with others. service/engine/hot/turns.py and sold_out.py know its arguments by position
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 books        hash    book's uuid → its number
      5 outbox       stream  one event, and S where the book runs low or out
ARGV  1 fingerprint  2 book_id  3 user  4 request, then the requested facts
Reply {OK, view, "", replayed}, {RECALL, events, as_of} or {outcome, figures}
Event A
Cost  at most 62 commands, 22 for each of at most 50 coupons whose locks have ended and that it takes back, 2 for each
      of at most 400 such locks, and 1 for each of at most 1,000 books of which the user holds coupons with an end of
      their own, where their number is limited ]]
-- @include gate book coupon request
-- @include idempotency coupon_counts assigning repeats
-- @limits
-- @joined

facts_from, named = ARGS.assign_any + 1, ARGV[3] -- named: the user (includes/idempotency.lua)
local reply, workspace, now = open_request(false, false, false, while_assigned)
if reply then return reply end
local number = redis.call('HGET', KEYS[4], ARGV[2])
if not number then return { OUT.book_not_found } end
local book, user = read_book(number), ARGV[3]
local refusal = book_refuses(book, now) or user_refuses(user, book, workspace.max_coupons, now, 0)
if refusal then return refusal end
-- @include view outbox counters locking place events assignment picking
local c, passed = find_free(book, now) -- passed: what it did not read may have a free one
if not c then return { passed and OUT.unavailable or OUT.out_of_stock } end
return assign(c, book, workspace, now, user, KEYS[5], ARGV[4])
