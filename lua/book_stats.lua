--[[ book_stats: count a book's coupons by status, and what stands.
Called by service/server/in_redis/workspace_state.py and service/server/tasks/restocker.py
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 books        hash    book's uuid → its number
ARGV  1 book_id
Reply {OK, codes, assigned, locked_unassigned, locked_assigned, redeemed, exhausted, inactive, redemptions, rolled_back,
      discount, discount_high, users, touched, taken, now_ms, currency, sums, budget…} or {outcome}; locked ones and the
      time (the workspace's) as numbers, other counts as strings; sums: of a book of cards what is issued, credited,
      spent, closed and held, each in its two parts, '-' of others; a budget's is the text of `budgets_now`
      (includes/budgets.lua)
Event none
Cost  O(log n) in the locked coupons, at most 8 commands, and 5 more where the book has budgets ]]
-- @include gate gate_refuses book

local got = redis.call('MGET', KEYS[1], KEYS[2])
-- Runs while the gate is full or behind, too.
if gate_refuses(got[1], true, true) or not got[2] then return { OUT.recovering } end
local workspace = read_workspace(got[2])
local now = workspace.now
local number = redis.call('HGET', KEYS[3], ARGV[1])
if not number then return { OUT.book_not_found } end
local n = redis.call(
  'HMGET',
  W .. 'n:' .. number,
  'codes',
  'assigned',
  'redeemed',
  'exhausted',
  'inactive',
  'redemptions',
  'rolledBack',
  'discount',
  'discountHigh',
  'users',
  'touched',
  'taken'
)
for i = 1, 12 do
  n[i] = n[i] or '0'
end
local free_locked = redis.call('ZCOUNT', W .. 'l:' .. number .. ':u', '(' .. whole(now), '+inf')
local assigned_locked = redis.call('ZCOUNT', W .. 'l:' .. number .. ':a', '(' .. whole(now), '+inf')
local book = read_book(number)
local reply = {
  OUT.OK,
  n[1],
  n[2],
  free_locked,
  assigned_locked,
  n[3],
  n[4],
  n[5],
  n[6],
  n[7],
  n[8],
  n[9],
  n[10],
  n[11],
  n[12],
  now,
  book.currency or workspace.currency,
}
local sums, lines
-- @holds sums book -> sums
reply[#reply + 1] = sums or '-'
-- @holds lines book, now -> lines
for _, line in ipairs(lines or {}) do
  reply[#reply + 1] = line
end
return reply
