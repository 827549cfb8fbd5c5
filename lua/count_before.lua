--[[ count_before: count what was redeemed of a book before it had budgets (includes/budgets.lua), from Postgres.
     Without a state, begin: from here on scripts count, and the state has the last event before.
Called by service/server/tasks/budget_counter.py, in the worker alone
KEYS  1 gate       string  epoch and state, read first
      2 workspace  string  its settings
      3 outbox     stream  its last event
ARGV  1 book  2 generation  3 state (that the counter `accounts` has, or '')  4 next_state, then for each thing its kind
      and three words: b counter number '-' of the book, or u user user_bucket "period:amount:uses …"
Reply {OK, state} or {outcome}
Event none
Cost  at most 9 commands, and 3 for each of at most 500 things ]]
-- @include gate gate_refuses book counters budgets

local got = redis.call('MGET', KEYS[1], KEYS[2])
-- Runs while the gate is full or behind, too.
if gate_refuses(got[1], true, true) or not got[2] then return { OUT.recovering } end
local number, generation, counters = ARGV[1], ARGV[2], W .. 'n:' .. ARGV[1]
local settings = redis.call('GET', W .. 'b:' .. number)
local book = settings and read_book(number, settings)
if not book or not book.bounds or bounds_of(book).generation ~= generation then return { OUT.OK, '' } end
local state = redis.call('HGET', counters, 'accounts') or ''
if string.match(state, '^%d*') ~= generation then
  commit_without_event()
  local past, flat = {}, redis.call('HGETALL', counters)
  for i = 1, #flat, 2 do
    local name = flat[i]
    if #past < 500 and string.find(name, '^%d+:') and string.match(name, '^%d+') ~= generation then
      past[#past + 1] = name
    end
  end
  if past[1] then redis.call('HDEL', counters, unpack(past)) end
  local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', '1')[1][1]
  state = generation .. ' ' .. last .. ' -'
  redis.call('HSET', counters, 'accounts', state)
elseif ARGV[3] ~= '' and state == ARGV[3] then
  commit_without_event()
  for i = 5, #ARGV, 4 do
    local kind, name, by, words = unpack(ARGV, i, i + 3)
    if kind == 'b' then
      redis.call('HINCRBY', counters, name, by)
    else
      add_user_spent(number, name, by, generation, function(add_to)
        for period, amount, uses in string.gmatch(words, '(%w+):(%d+):(%d+)') do
          add_to(period, amount + 0, uses + 0)
        end
      end)
    end
  end
  state = ARGV[4]
  redis.call('HSET', counters, 'accounts', state)
end
return { OUT.OK, state }
