--[[ count_storage: count what a workspace has in Redis, some of its books at a time.
Called by service/server/tasks/storage_watch.py, in the worker alone
KEYS  1 gate       string  epoch and state, read first
      2 workspace  string  its settings
      3 books      hash    book's uuid → its number
      4 kept       hash    hour → bytes of answers; users, gifts
ARGV  1 cursor ('0' first)
Reply {OK, cursor, mark, books, codes, records, uses, locks, lock_bytes, cards, periods, shares, accounts, users, gifts,
      kept_bytes, due book…} or {outcome}
      cursor      '0' after the last books
      mark        that of the workspace's settings
      records     codes that have an owner, are switched off, or whose uses are all spent
      locks       locked codes; lock_bytes: the memory of their locks beyond that (includes/locking.lua)
      periods     counters of books with budgets
      shares      what locks hold of budgets: entries for books and for users
      accounts    users who have spent of budgets
      users, gifts, kept_bytes  0 unless ARGV[1] is '0'
      due book    a book with so many expired locks on its cards or budgets that the worker sweeps them
Event none
Cost  at most 6 commands, 11 for each of at most 512 books (of a large hash: of some 100). One command reads a field
      for each hour that answers are kept ]]
-- @include gate gate_refuses book kept_bytes

local got = redis.call('MGET', KEYS[1], KEYS[2])
-- Runs while the gate is full or behind, too.
if gate_refuses(got[1], true, true) then return { OUT.recovering } end
local codes, records, uses, locks, lock_bytes, cards, periods, shares, accounts = 0, 0, 0, 0, 0, 0, 0, 0, 0
local users, gifts, kept_bytes, due = 0, 0, 0, {}
local at = got[2] and whole(read_workspace(got[2]).now) or '-inf'

local page = redis.call('HSCAN', KEYS[3], ARGV[1], 'COUNT', '100')
for i = 2, #page[2], 2 do
  local number = page[2][i]
  local n = redis.call(
    'HMGET',
    W .. 'n:' .. number,
    'codes',
    'taken',
    'assigned',
    'inactive',
    'exhausted',
    'lockBytes',
    'userAccounts',
    'issued',
    'issuedHigh',
    'accounts'
  )
  codes, uses = codes + (n[1] or 0), uses + (n[2] or 0)
  records = records + (n[3] or 0) + (n[4] or 0) + (n[5] or 0)
  lock_bytes, accounts = lock_bytes + math.max(n[6] or 0, 0), accounts + math.max(n[7] or 0, 0)
  local is_due = false
  if n[8] or n[9] then
    cards = cards + (n[1] or 0)
    for set in string.gmatch('uapo', '.') do
      is_due = is_due or redis.call('ZCOUNT', W .. 'l:' .. number .. ':' .. set, '-inf', at) > 0
    end
  end
  for _, name in ipairs({ ':u', ':a' }) do
    locks = locks + redis.call('ZCARD', W .. 'l:' .. number .. name)
  end
  if n[10] then
    periods = periods + redis.call('HLEN', W .. 'n:' .. number)
    local of_book = redis.call('ZCARD', W .. 'bl:' .. number)
    local bounds = of_book > 0 and read_book(number).bounds
    shares = shares + (bounds and string.find(bounds, ':u:', 1, true) and 2 or 1) * of_book
    is_due = is_due or of_book > 500 and redis.call('ZCOUNT', W .. 'bl:' .. number, '-inf', at) > 500
  end
  if is_due then due[#due + 1] = number end
end
if ARGV[1] == '0' then
  local time = redis.call('TIME')
  local kept = redis.call('HMGET', KEYS[4], 'users', 'gifts')
  users, gifts = kept[1] or '0', kept[2] or '0'
  kept_bytes = whole(sum_kept(KEYS[4], time[1] * 1000 + math.floor(time[2] / 1000)))
end
local reply = {
  OUT.OK,
  page[1],
  mark_of(got[2] or ''),
  #page[2] / 2,
  codes,
  records,
  uses,
  locks,
  lock_bytes,
  cards,
  periods,
  shares,
  accounts,
  users,
  gifts,
  kept_bytes,
}
for _, number in ipairs(due) do
  reply[#reply + 1] = number
end
return reply
