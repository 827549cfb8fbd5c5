-- A book's budgets and limits of uses (docs/internals/formats.md, Budgets): the second part of its setting `total`,
-- '<generation>[!]/<zone>/<bound>,…'. A bound is '<a or u>:<b or u>:<l, d or m>:<most>': of amounts (e4) or uses, of
-- the book or a user, in its lifetime, a day or a month. A zone is '<offset>,<from>:<offset>,…' in minutes. '!': every
-- redemption was counted under this generation once; a Redis that has lost that refuses.
-- A period is 'l', 'd<number of the local day>' or 'm<number of the local month>'. What is spent in it is in the book's
-- counters '<generation>:<period>', …High and …Uses, and in the user's bucket, '<book>/<user>/', as '<generation>
-- <period>:<amount>:<uses> …'. The counter `accounts` is the generation; while what was redeemed before is not yet
-- counted, the generation, the last event before, and the last user whose count is complete (lua/count_before.lua).
-- What stored locks hold are shares: members '<generation> <token> <amount> <day> <month>' of the sets of deadlines
-- bl:<book> and bu:<book>:<user>. The hash bh:<book> has the sums of the members of bl:, as the counters are named.
-- Needs gate; what changes a user's counts needs counters (or tally), whose `userAccounts` is how many users have some.
-- In Python: service/engine/formats/bounds.py.
-- @kind budget where book.bounds; includes discount_sum

-- book.bounds as a table: generation, is_sealed ('!'), zone, list, of_users (whether any is of a user); by what, whose,
-- period, most (a number).
local function bounds_of(book)
  local generation, mark, zone, words = string.match(book.bounds, '^(%d+)(!?)/([^/]+)/(%S+)$')
  local bounds = { generation = generation, is_sealed = mark == '!', zone = zone, list = {} }
  for what, whose, period, most in string.gmatch(words, '(%a):(%a):(%a):(%d+)') do
    bounds.list[#bounds.list + 1] = { what = what, whose = whose, period = period, most = tonumber(most) }
    if whose == 'u' then bounds.of_users = true end
  end
  return bounds
end

-- Call `each` with the offset (ms) of each stretch of the zone, and where it ends (ms).
local function each_stretch(zone, each)
  local offset = string.match(zone, '^%-?%d+')
  for from, to in string.gmatch(zone, ',(%-?%d+):(%-?%d+)') do
    if each(offset * 60000, from * 60000) then return end
    offset = to
  end
  each(offset * 60000, math.huge)
end

-- The number of a time's local day, since 1970.
local function day_of(zone, at)
  local day
  each_stretch(zone, function(offset, ends)
    day = math.floor((at + offset) / 86400000)
    return at < ends
  end)
  return day
end

-- The number of a day's month, since year 0; and the first day of a month. Years begin with March here.
local function month_of(day)
  local past = day + 719468
  local era = math.floor(past / 146097)
  local of_era = past - era * 146097
  local year =
    math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524) - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - 365 * year - math.floor(year / 4) + math.floor(year / 100)
  return (year + era * 400) * 12 + math.floor((5 * of_year + 2) / 153) + 2
end

local function first_day_of(month)
  local year = math.floor((month - 2) / 12)
  local of_year = month - 2 - year * 12
  return 365 * year
    + math.floor(year / 4)
    - math.floor(year / 100)
    + math.floor(year / 400)
    + math.floor((153 * of_year + 2) / 5)
    - 719468
end

-- The periods of a time, by their letter.
local function periods_of(zone, at)
  local day = day_of(zone, at)
  return { l = 'l', d = 'd' .. whole(day), m = 'm' .. whole(month_of(day)) }
end

-- When the next period begins after a time (ms), as text; '-' for a lifetime.
local function renews_at(zone, letter, at)
  if letter == 'l' then return '-' end
  local day, begins = day_of(zone, at), nil
  local next_day = letter == 'd' and day + 1 or first_day_of(month_of(day) + 1)
  local since = at
  each_stretch(zone, function(offset, ends)
    if ends <= at then return false end
    begins = math.max(since, next_day * 86400000 - offset)
    since = ends
    return begins < ends
  end)
  return whole(begins)
end

-- Add to an amount (e4, as text) and to the uses of a period. add: a function of a counter's name and what to add.
local function add_spent(add, name, e4, uses)
  -- @include discount_sum
  add_amount(add, name, e4)
  add(name .. 'Uses', uses)
end

-- Shares.

-- hold: the lock's price, of which it has a discount.
local function share_of(bounds, l, hold)
  local periods = periods_of(bounds.zone, l.started + 0)
  local discount = hold and string.match(hold, '^[^:]+:[^:]+:[^:]+:(%d+)') or '0'
  local words = { bounds.generation, l.token, discount, periods.d, periods.m }
  return table.concat(words, ' ')
end

-- Add shares to the book's sums of what locks hold, or take them off: sign 1 or -1.
local function sum_shares(key, shares, sign)
  local total = {}
  local function add(name, by) total[name] = (total[name] or 0) + sign * by end
  for _, share in ipairs(shares) do
    local generation, amount, day, month = string.match(share, '^(%d+) %S+ (%d+) (%S+) (%S+)$')
    for _, period in ipairs({ generation and 'l', day, month }) do
      add_spent(add, generation .. ':' .. period, amount, 1)
    end
  end
  for name, by in pairs(total) do
    if by ~= 0 then redis.call('HINCRBY', key, name, whole(by)) end
  end
end

-- Remove shares from the set of a book, with their sums. Those that are not there count for nothing.
local function drop_shares(book, shares)
  local set, key, removed = W .. 'bl:' .. book.number, W .. 'bh:' .. book.number, {}
  for _, share in ipairs(shares) do
    if redis.call('ZREM', set, share) == 1 then removed[#removed + 1] = share end
  end
  if not removed[1] then return end
  if redis.call('ZCARD', set) == 0 then
    redis.call('UNLINK', key)
  else
    sum_shares(key, removed, -1)
  end
end

-- Remove the shares of these locks.
local function drop_shares_of(book, locks)
  local bounds, shares = bounds_of(book), {}
  for i, l in ipairs(locks) do
    shares[i] = share_of(bounds, l, l.hold)
    if bounds.of_users then redis.call('ZREM', W .. 'bu:' .. book.number .. ':' .. l.user, shares[i]) end
  end
  drop_shares(book, shares)
end

-- Store a lock's share, or its new deadline; and remove at most 20 that have expired.
local function put_share(book, l, now)
  local bounds = bounds_of(book)
  local share, set = share_of(bounds, l, l.hold), W .. 'bl:' .. book.number
  drop_shares(book, redis.call('ZRANGEBYSCORE', set, '-inf', whole(now), 'LIMIT', 0, 20))
  if redis.call('ZADD', set, l.ends, share) == 1 then sum_shares(W .. 'bh:' .. book.number, { share }, 1) end
  if not bounds.of_users then return end
  set = W .. 'bu:' .. book.number .. ':' .. l.user
  local due = redis.call('ZRANGEBYSCORE', set, '-inf', whole(now), 'LIMIT', 0, 20)
  if due[1] then redis.call('ZREM', set, unpack(due)) end
  redis.call('ZADD', set, l.ends, share)
  -- As lu:<book>:<user> of includes/locking.lua, the key goes by itself.
  local last = redis.call('ZRANGE', set, '-1', '-1', 'WITHSCORES')[2]
  if last then redis.call('PEXPIRE', set, whole(last - now + 3600000)) end
end

-- What shares hold in the period of a bound: the amount, or the uses.
local function held_in(shares, generation, bound, period)
  local sum = 0
  for _, share in ipairs(shares) do
    local its, e4, day, month = string.match(share, '^(%d+) %S+ (%d+) (%S+) (%S+)$')
    if its == generation and (bound.period == 'l' or period == day or period == month) then
      sum = sum + (bound.what == 'a' and e4 or 1)
    end
  end
  return sum
end

-- Judging.

-- What a user has spent, by period: {amount, uses}; empty under another generation. text: false for none.
local function read_user_spent(text, generation)
  local spent = {}
  if not text or string.match(text, '^%d+') ~= generation then return spent end
  for period, amount, uses in string.gmatch(text, ' (%w+):(%-?%d+):(%-?%d+)') do
    spent[period] = { tonumber(amount), tonumber(uses) }
  end
  return spent
end

-- The book's sums of each bound's period, in the hash `key`, by the place of the bound, and the field `accounts`.
local function read_spent(key, bounds, periods)
  local names, sums = { 'accounts' }, {}
  for i, bound in ipairs(bounds.list) do
    local name = bounds.generation .. ':' .. periods[bound.period]
    names[3 * i - 1], names[3 * i], names[3 * i + 1] = name, name .. 'High', name .. 'Uses'
  end
  local got = redis.call('HMGET', key, unpack(names))
  for i, bound in ipairs(bounds.list) do
    sums[i] = bound.what == 'a' and (got[3 * i - 1] or 0) + (got[3 * i] or 0) * 1e9 or (got[3 * i + 1] or 0) + 0
  end
  return sums, got[1]
end

local MOST_EXPIRED = 1000 -- shares that a refusal looks at

-- The first of the book's shares that have expired, at most one more than MOST_EXPIRED.
local function expired_shares(set, now)
  local list = {}
  for from = 0, MOST_EXPIRED, 500 do
    local some = redis.call(
      'ZRANGEBYSCORE',
      set,
      '-inf',
      whole(now),
      'LIMIT',
      whole(from),
      whole(math.min(500, MOST_EXPIRED + 1 - from))
    )
    for i, share in ipairs(some) do
      list[from + i] = share
    end
    if #some < 500 then break end
  end
  WORK = (WORK or 0) + #list / 10
  return list
end

-- Which outcomes refuse an amount (e4, nil or 0 where it isn't judged) and, unless it is held, a use, at the time of
-- the own lock or now; a list of {outcome, figures}: the last moment at which one of the bounds renews, '-' for never.
-- own: the live lock, whose share is free, or nil; user: nil for none; users: the key of the user's bucket.
local function judge_bounds(book, user, users, own, amount, is_use_held, now)
  local bounds = bounds_of(book)
  local at, set = own and tonumber(own.started) or now, W .. 'bl:' .. book.number
  local periods, generation = periods_of(bounds.zone, at), bounds.generation
  local spent, state = read_spent(W .. 'n:' .. book.number, bounds, periods)
  if state ~= generation then return bounds.is_sealed and { { OUT.unavailable } } or {} end
  local held = read_spent(W .. 'bh:' .. book.number, bounds, periods)
  local share = own and share_of(bounds, own, own.hold)
  local own_shares = share and redis.call('ZSCORE', set, share) and { share } or {}
  local of_user, shares_of_user = {}, {}
  if bounds.of_users and user then
    of_user = read_user_spent(redis.call('HGET', users, book.number .. '/' .. user .. '/'), generation)
    for _, one in
      ipairs(
        redis.call(
          'ZRANGEBYSCORE',
          W .. 'bu:' .. book.number .. ':' .. user,
          '(' .. whole(now),
          '+inf',
          'LIMIT',
          0,
          1000
        )
      )
    do
      if one ~= share then shares_of_user[#shares_of_user + 1] = one end
    end
    WORK = (WORK or 0) + #shares_of_user / 10
  end

  local expired
  local function refuses(i, bound)
    local period, more, taken = periods[bound.period], 1, nil
    if bound.what == 'a' then
      more = amount or 0
    elseif is_use_held then
      more = 0
    end
    if more == 0 or bound.whose == 'u' and not user then return false end
    if bound.whose == 'u' then
      local counts = of_user[period] or { 0, 0 }
      taken = counts[bound.what == 'a' and 1 or 2] + held_in(shares_of_user, generation, bound, period)
      return taken + more > bound.most
    end
    taken = spent[i] + held[i] - held_in(own_shares, generation, bound, period)
    if taken + more <= bound.most then return false end
    expired = expired or expired_shares(set, now)
    return taken - held_in(expired, generation, bound, period) + more > bound.most
  end

  local renews = {}
  for i, bound in ipairs(bounds.list) do
    if refuses(i, bound) then
      -- What more locks than that held may be free; the next requests remove some of them.
      if bound.whose == 'b' and #expired > MOST_EXPIRED then return { { OUT.unavailable } } end
      local before, next_at = renews[bound.what], renews_at(bounds.zone, bound.period, at)
      if not before or next_at == '-' or before ~= '-' and next_at - before > 0 then renews[bound.what] = next_at end
    end
  end
  local found = {}
  if renews.a then found[1] = { OUT.budget_exhausted, renews.a } end
  if renews.u then found[#found + 1] = { OUT.period_limit, renews.u } end
  return found
end

-- Accounts.

-- Remove what a user has spent.
local function drop_user_spent(number, user, user_bucket)
  if redis.call('HDEL', W .. 'o:' .. user_bucket, number .. '/' .. user .. '/') == 1 then
    count(number, 'userAccounts', '-1')
  end
end

-- Change what a user has spent: `change` gets a function, to which it gives a period, an amount and uses. Kept are a
-- lifetime, and the last two days and months.
local function add_user_spent(number, user, user_bucket, generation, change)
  local key, field = W .. 'o:' .. user_bucket, number .. '/' .. user .. '/'
  local text = redis.call('HGET', key, field)
  local spent = read_user_spent(type(text) == 'string' and text, generation)
  change(function(period, amount, uses)
    local was = spent[period] or { 0, 0 }
    spent[period] = { was[1] + amount, was[2] + uses }
  end)
  local names, latest = {}, {}
  for period in pairs(spent) do
    names[#names + 1] = period
  end
  table.sort(names, function(a, b) return #a > #b or #a == #b and a > b end)
  local parts, is_any = { generation }, false
  for _, period in ipairs(names) do
    local letter, of = string.sub(period, 1, 1), spent[period]
    latest[letter] = (latest[letter] or 0) + 1
    if latest[letter] <= 2 then
      parts[#parts + 1] = period .. ':' .. whole(of[1]) .. ':' .. whole(of[2])
      is_any = is_any or of[1] ~= 0 or of[2] ~= 0
    end
  end
  if not is_any then return drop_user_spent(number, user, user_bucket) end
  if redis.call('HSET', key, field, table.concat(parts, ' ')) == 1 then count(number, 'userAccounts', '1') end
end

-- Count a redemption (sign '') in its periods, or take it off ('-'). e4: its discount, as text; at: ms.
local function count_spent(book, user, user_bucket, e4, at, sign)
  local bounds = bounds_of(book)
  local generation, number = bounds.generation, book.number
  -- Nothing counts before lua/count_before.lua began.
  local state = redis.call('HGET', W .. 'n:' .. number, 'accounts')
  if type(state) ~= 'string' or string.match(state, '^%d+') ~= generation then return end
  local periods = periods_of(bounds.zone, at)
  local signed = e4 == '0' and e4 or sign .. e4
  local function add(name, by) count(number, name, by) end
  for _, period in pairs(periods) do
    add_spent(add, generation .. ':' .. period, signed, sign .. '1')
  end
  if bounds.of_users then
    add_user_spent(number, user, user_bucket, generation, function(add_to)
      for _, period in pairs(periods) do
        add_to(period, signed + 0, tonumber(sign .. '1'))
      end
    end)
  end
end

-- Move what a user has spent by a redemption to another user.
local function move_spent(book, user, user_bucket, to, to_bucket, e4, at)
  local bounds = bounds_of(book)
  local state = redis.call('HGET', W .. 'n:' .. book.number, 'accounts')
  if not bounds.of_users or type(state) ~= 'string' or string.match(state, '^%d+') ~= bounds.generation then
    return drop_user_spent(book.number, user, user_bucket) -- of an earlier generation
  end
  local periods = periods_of(bounds.zone, at)
  add_user_spent(book.number, user, user_bucket, bounds.generation, function(add_to)
    for _, period in pairs(periods) do
      add_to(period, -e4, -1)
    end
  end)
  add_user_spent(book.number, to, to_bucket, bounds.generation, function(add_to)
    for _, period in pairs(periods) do
      add_to(period, tonumber(e4), 1)
    end
  end)
end

-- Append a notice for each of the book's budgets of which a redemption spent the first of 80 % or the last. at: the
-- time in whose periods it counts.
local function watch_budgets(outbox, book, e4, at, now)
  local bounds = bounds_of(book)
  local periods = periods_of(bounds.zone, at)
  local spent, state = read_spent(W .. 'n:' .. book.number, bounds, periods)
  if state ~= bounds.generation then return end
  for i, bound in ipairs(bounds.list) do
    if bound.what == 'a' and bound.whose == 'b' then
      -- @include crossing
      local of = 'budget:'
        .. bound.period
        .. ':'
        .. whole(bound.most)
        .. ':'
        .. renews_at(bounds.zone, bound.period, at)
      cross(outbox, book.number, now, of, bound.most - spent[i], e4, math.floor(bound.most / 5) + 1)
    end
  end
end

-- What is spent and held now of each of the book's budgets, in their order: '<l, d or m> <amount> <spent> <held>
-- <renews or ->'.
local function budgets_now(book, now)
  local bounds, lines = bounds_of(book), {}
  local periods, set = periods_of(bounds.zone, now), W .. 'bl:' .. book.number
  local spent = read_spent(W .. 'n:' .. book.number, bounds, periods)
  local held = read_spent(W .. 'bh:' .. book.number, bounds, periods)
  local expired = expired_shares(set, now)
  for i, bound in ipairs(bounds.list) do
    if bound.what == 'a' and bound.whose == 'b' then
      local live = held[i] - held_in(expired, bounds.generation, bound, periods[bound.period])
      lines[#lines + 1] = bound.period
        .. ' '
        .. whole(bound.most)
        .. ' '
        .. whole(spent[i])
        .. ' '
        .. whole(math.max(live, 0))
        .. ' '
        .. renews_at(bounds.zone, bound.period, now)
    end
  end
  return lines
end

-- What a lock holds of budgets and limits of uses, and a redemption spends: the functions of this kind, as
-- includes/cards.lua.
local function budget_needs_amount(book) return string.find(book.bounds, '/a:', 1, true) end

-- value: the order's, nil for none. A request under a lock is judged by what it wants beyond the lock's price alone.
local function budget_judge_amount(book, ask, value, now)
  local wanted
  if
    ask.is_priced
    and not ask.is_held
    and value
    and book.discount
    and (ask.currency or ask.usual_currency) == ask.its_currency
    and not (book.least and value < book.least)
  then
    wanted = saving_of(book, ask, value)
  end
  if wanted or not ask.own then return judge_bounds(book, ask.user, ask.users, ask.own, wanted, ask.own ~= nil, now) end
end

-- A user has at most a thousand live shares. Returns when the first of them ends, in ms from now.
local function budget_judge_number(book, user, now)
  local key = W .. 'bu:' .. book.number .. ':' .. user
  if redis.call('ZCOUNT', key, '(' .. whole(now), '+inf') < 1000 then return nil end
  return redis.call('ZRANGEBYSCORE', key, '(' .. whole(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2] - now
end

-- It counts in the period of its lock.
local function budget_note(ask) ask.counted_at = ask.own and ask.own.started end

-- A lock that holds something else from now on leaves its share.
local function budget_hold(_, book, l, was, now)
  if was and was ~= (l.hold or '') then
    local before = { started = l.started, token = l.token, user = l.user, hold = was ~= '' and was or nil }
    drop_shares_of(book, { before })
  end
  put_share(book, l, now)
end

local function budget_release(_, book, locks) drop_shares_of(book, locks) end
local function budget_spend(_, book, e, at)
  count_spent(book, e.user, e.user_bucket, e.discount, tonumber(e.counted_at or at), '')
end

local function budget_give_back(_, book, e)
  count_spent(book, e.user, e.user_bucket, e.discount, tonumber(e.counted_at), '-')
end

local function budget_watch(book, ask, at, outbox)
  if ask.saved_e4 > 0 then watch_budgets(outbox, book, ask.saved_e4, tonumber(ask.counted_at or at), at) end
end

local function budget_move(book, user, user_bucket, to, to_bucket, e4, at)
  move_spent(book, user, user_bucket, to, to_bucket, e4, at)
  return true
end

local function budget_lines(book, now) return budgets_now(book, now) end

-- A book that is new in Redis: all of it will be counted.
local function budget_begin(book)
  redis.call('HSET', W .. 'n:' .. book.number, 'accounts', string.match(book.bounds, '^%d+'))
end
