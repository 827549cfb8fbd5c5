-- A card: a coupon of a book whose discount is a balance. Its account is in the hash `m:<bucket>`, code → '<issued>
-- <credited> <spent> <closed> <held>', in 10^-4 units, each below 10^16; held: what its stored locks hold, each the
-- amount in its price (includes/pricing.lua). A lock that has expired holds nothing, though it is stored: read_funds
-- leaves it out. What remains is available. The counters of the book have the sums of its cards
-- (includes/discount_sum.lua). In Python: service/engine/formats/card_account.py. Needs gate, coupon; change_account
-- coupon_counts, save_account counters (or tally) and discount_sum.
-- @kind card where book.discount == 'balance'; includes coupon_counts discount_sum retry_after

-- The account of a card, read once; zeros of a code that has none. settle (includes/place.lua) writes what was changed.
local function account_of(c)
  if c.account then return c.account end
  local text = redis.call('HGET', W .. 'm:' .. c.bucket, c.code)
  local issued, credited, spent, closed, held = string.match(text or '0 0 0 0 0', '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
  local account =
    { issued = issued + 0, credited = credited + 0, spent = spent + 0, closed = closed + 0, held = held + 0 }
  local sums = {}
  for word, amount in pairs(account) do
    sums[word] = amount
  end
  account.text, account.stored, c.account = text, sums, account
  return account
end

-- What it has, available or held. A card without is used up.
local function funds_of(account) return account.issued + account.credited - account.spent - account.closed end

-- What a lock holds of a card, by its price; and by the text that `k:<code>` has of it. nil or false for none.
local function held_by(hold) return hold and tonumber(string.match(hold, '^%d+:%a+:%d:(%d+)')) or 0 end
local function held_by_stored(text)
  return text and tonumber(string.match(text, '^%S+ %d+ %d+ %S+ %d+:%a+:%d:(%d+)')) or 0
end

-- What a card has, and how much of that live locks hold; then whether that is known: where more than a thousand locks
-- have expired, and as many live, it is at most so much. Locks that the merchant ended hold it until they are swept.
local function read_funds(c, now)
  local MOST = 1000
  local account = account_of(c)
  local funds, held, is_known = funds_of(account), account.held, true
  -- as read before
  if account.live then return funds, math.max(0, math.min(account.live, funds)), account.is_live_known end
  local key, at = W .. 'kd:' .. c.code, whole(now)
  local expired = held > 0 and redis.call('ZCOUNT', key, '-inf', at) or 0
  if expired > 0 then
    local holders, sum
    if expired <= MOST then
      holders = redis.call('ZRANGEBYSCORE', key, '-inf', at)
    else
      holders = redis.call('ZRANGEBYSCORE', key, '(' .. at, '+inf', 'LIMIT', '0', whole(MOST + 1))
    end
    is_known, sum = #holders <= MOST, 0
    WORK = (WORK or 0) + #holders / 25
    for first = 1, is_known and #holders or 0, 500 do
      local texts = redis.call('HMGET', W .. 'k:' .. c.code, unpack(holders, first, math.min(first + 499, #holders)))
      for _, text in ipairs(texts) do
        sum = sum + held_by_stored(text)
      end
    end
    if is_known then held = expired <= MOST and held - sum or sum end
  end
  account.live, account.is_live_known = held, is_known
  return funds, math.max(0, math.min(held, funds)), is_known
end

-- What a request may take that is under this lock (nil for none); then as read_funds.
local function left_of(c, own, now)
  local funds, held, is_known = read_funds(c, now)
  return math.min(funds, funds - held + (own and held_by(own.hold) or 0)), funds, is_known
end

-- Why the `amount` that a request names can't be taken, as figures of `invalid`; nil where it can. ask: after the
-- order's currency is known (includes/judging.lua).
local function misfit_of_amount(amount, book, currency, digits)
  if book.discount ~= 'balance' then return 'amount' end
  if amount % 10 ^ (4 - digits) ~= 0 then return 'amount/' .. currency .. '/' .. digits .. '/' .. whole(amount) end
end

-- The lock's record that is stored, or removed, holds so much more.
local function change_held(c, by)
  local account = account_of(c)
  account.held, account.live = account.held + by, nil
end

-- Add to what was credited, spent or closed. A user's card that this uses up, or that is no longer, counts so.
local function change_account(c, book, word, by)
  local account = account_of(c)
  local was_used_up = funds_of(account) == 0
  account[word] = account[word] + by
  if c.user and (funds_of(account) == 0) ~= was_used_up then count_assigned(c, book, was_used_up and '1' or '-1') end
end

-- The account of a new code of this amount.
local function open_account(c, amount)
  c.account = {
    issued = amount,
    credited = 0,
    spent = 0,
    closed = 0,
    held = 0,
    stored = { issued = 0, credited = 0, spent = 0, closed = 0, held = 0 },
  }
end

-- Write the account, and the difference to the sums of its book.
local function save_account(c, book)
  local account = c.account
  local stored = account.stored
  local text = whole(account.issued)
    .. ' '
    .. whole(account.credited)
    .. ' '
    .. whole(account.spent)
    .. ' '
    .. whole(account.closed)
    .. ' '
    .. whole(account.held)
  if text == account.text then return end
  redis.call('HSET', W .. 'm:' .. c.bucket, c.code, text)
  account.text = text
  for word, was in pairs(stored) do
    local by = account[word] - was
    stored[word] = account[word]
    if by ~= 0 then add_amount(function(name, more) count(book.number, name, more) end, word, whole(by)) end
  end
end

-- What clients see of it: '<issued>:<credited>:<spent>:<held>:<closed>:<available>:<digits>'.
local function view_of_account(c, book, funds, held)
  local account = account_of(c)
  return whole(account.issued)
    .. ':'
    .. whole(account.credited)
    .. ':'
    .. whole(account.spent)
    .. ':'
    .. whole(held)
    .. ':'
    .. whole(account.closed)
    .. ':'
    .. whole(funds - held)
    .. ':'
    .. book.digits
end

-- What a lock holds of a card, and a redemption spends: the functions of its kind (HOLD_VERBS of
-- service/engine/hot/scripts.py).
local function card_needs_amount() return true end

-- left of a card: what the request may take; the lock's amount is less than is there where a clock went back.
local function card_judge_held(c, ask, now)
  local left, funds, is_known = left_of(c, ask.own, now)
  ask.left = left
  if left < ask.saved_e4 then ask.is_held = false end
  if not is_known then return { OUT.unavailable } end
  if left == 0 and funds > 0 then return { OUT.coupon_locked, not ask.reasons and retry_after(c, nil, now) or nil } end
end

local function card_judge_left(c) return funds_of(account_of(c)) == 0 and { OUT.coupon_exhausted } or nil end
local function card_saving(ask, value) return math.min(ask.left, value, ask.amount or value) end
local function card_note(ask) ask.balance_after = whole(ask.left - ask.saved_e4) end
local function card_note_back(c, e, restore, now)
  local funds, held = read_funds(c, now)
  e.balance_after = whole(funds - held + (restore and e.discount or 0))
end

local function card_can_give_back(c, e) return account_of(c).spent >= tonumber(e.discount) end
local function card_hold(c, _, l, was) change_held(c, held_by(l.hold) - held_by(was)) end
local function card_release(c, _, locks)
  for _, l in ipairs(locks) do
    change_held(c, -held_by(l.hold))
  end
end

local function card_release_rest(c) change_held(c, -account_of(c).held) end
local function card_spend(c, book, e) change_account(c, book, 'spent', tonumber(e.discount)) end
local function card_give_back(c, book, e) change_account(c, book, 'spent', -e.discount) end
local function card_save(c, book) save_account(c, book) end
local function card_left(c) return funds_of(account_of(c)) end
local function card_stored(c) return account_of(c) end
local function card_open(c, amount) open_account(c, tonumber(amount) or 0) end
local function card_view(c, book, now)
  local funds, held = read_funds(c, now)
  return { left = funds, is_held = funds - held == 0, text = ' ' .. view_of_account(c, book, funds, held) }
end

-- The amount of the lock is one of a card.
local function card_added_to_view() return ':m' end

-- The sums of the book's cards, each of two counters (includes/discount_sum.lua).
local function card_sums(book)
  local sums = redis.call(
    'HMGET',
    W .. 'n:' .. book.number,
    'issued',
    'issuedHigh',
    'credited',
    'creditedHigh',
    'spent',
    'spentHigh',
    'closed',
    'closedHigh',
    'held',
    'heldHigh'
  )
  for i = 1, 10 do
    sums[i] = sums[i] or '0'
  end
  return table.concat(sums, ' ')
end
