--[[ apply_events: apply recorded events again, in order, to a Redis that is being mended. Each is judged before its
     first write: one that can't be applied changes nothing, and is named. `failed` alone may leave a part of it.
Called by service/engine/worker/opening/restorer.py; unappliable_events.py there takes the reply
KEYS  1 gate         string  epoch and state, read first
      2 mend         string  how far the mending is, then '<event>:<why>' of each that was left out since it began
                             (service/engine/formats/recovery_progress.py parses it)
ARGV  1 the mark after these events (`whole` while everything is rebuilt: fill_pool follows), then for each event:
      decided, its id; of B "redemption's_event discount_e4 user_bucket counted_at"; else ''
Reply {OK, position from 0 of an event that was left out, why, …} or {outcome}; why: unreadable code_missing
      book_missing other_book assigned not_assigned redemption_missing not_standing below_zero failed
Event none
Cost  at most 4 commands, 30 for each of at most 251 events, and 2 for each of at most 1,400 locks of their coupons ]]
-- @include gate gate_refuses unlogged failing book tally coupon locks locking place coupon_counts orders events
-- @include redemption assignment rolling crediting

-- OPEN is '<epoch> closed' here (includes/gate.lua).
if gate_refuses(redis.call('GET', KEYS[1]), false, false) then return { OUT.recovering } end
if ARGV[1] == 'whole' then
  fills_later = true -- for includes/place.lua
  leave_unlogged()
end
local MAX_LEFT_OUT = 20000 -- characters: the mark stays small
local touched, last_w = {}, nil
-- A code of the book was redeemed.
local function touch(book)
  if not touched[book] then redis.call('HSET', W .. 'n:' .. book.number, 'touched', 1) end
  touched[book] = true
end

local function places_of(e) return e.order ~= '-' and entry_of_order(W .. 'o:' .. e.order_bucket, e.order) end

local books = {}
-- The book; nil where there are no settings of it that can be read.
local function book_of(number)
  local mine, book = of_book(books, number)
  if not book then
    local text = redis.call('GET', W .. 'b:' .. number)
    book = text and read_book(number, text)
    mine[number] = book
  end
  if book and book.id then return book end
end

-- Why a rollback can't be applied; nil where it can. e: its redemption.
local function refuses_rollback(c, book, e)
  if not e.event then return 'redemption_missing' end
  if not stands(c, e.event) then return 'not_standing' end
  local counts = redis.call('HGET', W .. 'o:' .. e.user_bucket, book.number .. '/' .. e.user) or '0'
  local taken, standing = read_user_counts(counts)
  local back = e.restore and 1 or 0
  if tonumber(taken) < back or tonumber(standing) < 1 or c.uses < back then return 'below_zero' end
  if e.restore then
    local is_possible
    -- @holds can_give_back c, e -> is_possible
    if is_possible == false then return 'below_zero' end
  end
end

local begun

-- Apply an event, once all that it rests on was read; or say why it can't be applied. `begun` from the first write on.
local function redo_event(decided, id, more)
  -- Nearly all are redemptions.
  -- stylua: ignore
  local kind, w, number, code, user, order, _, _, _, discount, at, slot, bucket, order_bucket, max, _, counted_at,
    user_bucket = 'R', read_redeemed(decided)
  if not w then
    kind, w, number, code, user, bucket = read_fact(decided)
  end
  if not w then return 'unreadable' end
  if w ~= last_w then
    W, last_w = string.sub(KEYS[1], 1, -5) .. 'w' .. w .. ':', w
  end
  local c = load_coupon(code, bucket)
  -- A Postgres that lost its end may lack the newest codes, and have got from Redis what happened to them.
  if not c then return 'code_missing' end
  if book_number_of(c.entry) ~= number then return 'other_book' end
  local book = book_of(number)
  if not book then return 'book_missing' end
  if kind == 'R' then
    local limit = tonumber(max)
    if limit == 0 then limit = nil end
    local e = {
      user = user,
      user_bucket = user_bucket,
      order = order,
      order_bucket = order_bucket,
      slot = slot,
      discount = discount,
      counted_at = counted_at ~= '-' and counted_at or nil,
    }
    begun = true
    touch(book)
    -- the lock, where this Redis has it still
    e.entry, e.own = places_of(e), lock_of(c, limit, user, order, tonumber(at))
    apply_redeem(c, book, limit, e, id, tonumber(at))
  elseif kind == 'A' then
    if c.user then return 'assigned' end
    local at, order, order_bucket = read_assigned(decided)
    if not at then return 'unreadable' end
    begun = true
    apply_assign(c, book, user, at, order ~= '' and { order = order, bucket = order_bucket } or nil)
  elseif kind == 'U' then
    if not c.user then return 'not_assigned' end
    local at = read_unassigned(decided)
    if not at then return 'unreadable' end
    begun = true
    apply_unassign(c, book, at)
  elseif kind == 'C' then
    -- @include cards
    local what, amount, at = user, read_balance(decided)
    if what ~= 'credited' and what ~= 'closed' or not at then return 'unreadable' end
    if what == 'closed' and amount - funds_of(account_of(c)) > 0 then return 'below_zero' end
    begun = true
    apply_balance(c, book, what, tonumber(amount), tonumber(at))
  else
    local order, at, restore, order_bucket = read_rolled_back(decided)
    if not order then return 'unreadable' end
    local event, discount, user_bucket, counted_at = string.match(more, '^(%d+%-%d+) (%d+) (%d+) (%d+)$')
    local e = {
      counted_at = counted_at,
      event = event,
      user = user,
      user_bucket = user_bucket,
      order = order,
      order_bucket = order_bucket,
      discount = discount,
      restore = restore == '1',
    }
    local why = refuses_rollback(c, book, e)
    if why then return why end
    begun = true
    apply_rollback(c, book, e, at, e.restore, places_of(e))
  end
end

-- A key of the wrong type is no event's fault: the worker orders a rebuild, which removes it. In a rebuild there is
-- none.
local function end_unless_events(failure)
  end_unless_own(failure)
  local text = text_of(failure)
  if not fills_later and string.find(text, 'WRONGTYPE', 1, true) then error({ err = text }, 0) end
end

local reply, set_aside = { OUT.OK }, {}
for i = 2, #ARGV, 3 do
  begun = false
  local is_done, why = pcall(redo_event, ARGV[i], ARGV[i + 1], ARGV[i + 2])
  if not is_done then
    end_unless_events(why)
    why = begun and 'failed' or 'unreadable'
  end
  if why then
    reply[#reply + 1] = (i - 2) / 3
    reply[#reply + 1] = why
    set_aside[#set_aside + 1] = ARGV[i + 1] .. ':' .. why
  end
end
write_counts()
local mark = ARGV[1]
if mark ~= 'whole' then
  -- A worker that dies before it has set these aside leaves their names to the next one.
  local was = redis.call('GET', KEYS[2]) or ''
  local names = (string.match(was, ' .*$') or '') .. (set_aside[1] and ' ' .. table.concat(set_aside, ' ') or '')
  mark = (was == 'whole' or #names > MAX_LEFT_OUT) and 'whole' or mark .. names
end
redis.call('SET', KEYS[2], mark)
return reply
