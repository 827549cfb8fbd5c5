--[[ redo: apply recorded events again, in order, to a Redis that is being mended. Each is judged before its first write:
     one that can't be applied changes nothing, and is named. `failed` alone may leave a part of it.
KEYS  1 gate         string  epoch and state, read first
      2 mend         string  how far the mending is, then '<event>:<why>' of each that was left out since it began
ARGV  1 the mark after these events (`whole` while everything is rebuilt: fill_pool follows), then for each event:
      decided, its id; of B "redemption's_event discount_e4 user_bucket"; else ''
Reply {OK, position from 0 of an event that was left out, why, …} or {outcome}; why: unreadable code_missing book_missing
      other_book assigned not_assigned redemption_missing not_standing below_zero failed
Event none
Cost  O(n) in the events, at most 251 of them ]]
-- @include gate unlogged failing book tally coupon locks place holding orders state

if redis.call('GET', KEYS[1]) ~= OPEN then return { OUT.recovering } end
if ARGV[1] == 'whole' then
  fills_later = true
  leave_unlogged()
end
local MAX_LEFT_OUT = 20000 -- characters: the mark stays small
local touched, last_w = {}, nil
local BUCKET = { -- kind, w, book, code, user and the code's bucket of the others
  A = '^(A) (%S+) (%S+) (%S+) (%S+) %S+ (%d+)', U = '^(U) (%S+) (%S+) (%S+) (%S+) %S+ (%d+)$',
  B = '^(B) (%S+) (%S+) (%S+) (%S+) %S+ %S+ %S+ %S+ (%d+) %S+$',
}
-- A code of the book was redeemed.
local function touch(book)
  if not touched[book] then redis.call('HSET', W .. 'n:' .. book.number, 'touched', 1) end
  touched[book] = true
end

local function places_of(e)
  return e.order ~= '-' and places(redis.call('HGET', W .. 'o:' .. e.order_bucket, e.order)) or {}
end

-- The book; nil where there are no settings of it that can be read.
local function book_of(number)
  local mine, book = of_book(books, number)
  if not book then
    local text = redis.call('GET', W .. 'b:' .. number)
    book = text and read_book_once(number, text)
    mine[number] = book
  end
  if book and book.id then return book end
end

-- Why a rollback can't be applied; nil where it can. e: its redemption.
local function refuses_rollback(c, number, e)
  if not e.event then return 'redemption_missing' end
  if not stands(c, e.event) then return 'not_standing' end
  local counts = redis.call('HGET', W .. 'o:' .. e.user_bucket, number .. '/' .. e.user) or '0'
  local taken, standing = string.match(counts, '^(%d+) ?(%d*)$')
  local back = e.restore and 1 or 0
  if tonumber(taken) < back or tonumber(standing ~= '' and standing or taken) < 1 or c.uses < back then return 'below_zero' end
end

-- An event with all that it rests on: coupon, book, kind, and its words. Or nil, and why it can't be applied. Writes nothing.
local function read_event(decided, id, more)
  -- Nearly all are redemptions, which have the most words.
  local kind, w, number, code, user, order, discount, at, slot, bucket, order_bucket, max, user_bucket = string.match(
    decided, '^(R) (%S+) (%S+) (%S+) (%S+) (%S+) %S+ %S+ %S+ %S+ (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
  local pattern = BUCKET[string.sub(decided, 1, 1)]
  if not kind and pattern then kind, w, number, code, user, bucket = string.match(decided, pattern) end
  if not kind then return nil, 'unreadable' end
  if w ~= last_w then W, last_w = '{p' .. PARTITION .. '}:w' .. w .. ':', w end
  local c = load_coupon(code, bucket)
  -- A Postgres that lost its end may lack the newest codes, and have got from Redis what happened to them.
  if not c then return nil, 'code_missing' end
  if string.match(c.entry, '^%d+') ~= number then return nil, 'other_book' end
  local book = book_of(number)
  if not book then return nil, 'book_missing' end
  if kind == 'R' then
    return c, book, kind, { event = id, user = user, user_bucket = user_bucket, order = order, order_bucket = order_bucket,
      slot = slot, discount = discount, at = at, limit = max ~= '0' and tonumber(max) or nil }
  elseif kind == 'A' then
    if c.user then return nil, 'assigned' end
    local at, order, order_bucket = string.match(decided, '^A %S+ %S+ %S+ %S+ (%d+) %d+ ?(%S*) ?(%d*)$')
    if not at then return nil, 'unreadable' end
    return c, book, kind, { user = user, at = at, gift = order ~= '' and { order = order, bucket = order_bucket } or nil }
  elseif kind == 'U' then
    if not c.user then return nil, 'not_assigned' end
    local at = string.match(decided, ' (%d+) %d+$')
    if not at then return nil, 'unreadable' end
    return c, book, kind, { at = at }
  end
  local order, at, restore, order_bucket = string.match(decided, '^B %S+ %S+ %S+ %S+ (%S+) %S+ (%d+) ([01]) %d+ (%d+)$')
  if not order then return nil, 'unreadable' end
  local event, discount, user_bucket = string.match(more, '^(%d+%-%d+) (%d+) (%d+)$')
  local e = { event = event, user = user, user_bucket = user_bucket, order = order, order_bucket = order_bucket,
    discount = discount, at = at, restore = restore == '1' }
  local why = refuses_rollback(c, number, e)
  if why then return nil, why end
  return c, book, kind, e
end

local function apply(c, book, kind, e)
  if kind == 'R' then
    touch(book)
    -- The lock that it was under, where this Redis has it still.
    apply_redeem(c, book, e.limit, e, places_of(e), lock_of(c, e.limit, e.user, e.order, tonumber(e.at)))
  elseif kind == 'A' then apply_assign(c, book, e.user, e.at, e.gift)
  elseif kind == 'U' then apply_unassign(c, book, e.at)
  else apply_rollback(c, book, e, e.at, e.restore, places_of(e)) end
end

-- A key of the wrong type is no event's fault: the worker orders a rebuild, which removes it. In a rebuild there is none.
local function end_unless_events(failure)
  end_unless_own(failure)
  local text = type(failure) == 'table' and failure.err or tostring(failure)
  if not fills_later and string.find(text, 'WRONGTYPE', 1, true) then error(failure, 0) end
end

local reply, left_out = { OUT.OK }, {}
for i = 2, #ARGV, 3 do
  local is_read, c, book, kind, e = pcall(read_event, ARGV[i], ARGV[i + 1], ARGV[i + 2])
  local why = book
  if not is_read then
    end_unless_events(c)
    why = 'unreadable'
  elseif c then
    local is_applied, failure = pcall(apply, c, book, kind, e)
    if not is_applied then end_unless_events(failure) end
    why = not is_applied and 'failed'
  end
  if why then
    reply[#reply + 1] = (i - 2) / 3
    reply[#reply + 1] = why
    left_out[#left_out + 1] = ARGV[i + 1] .. ':' .. why
  end
end
write_counts()
local mark = ARGV[1]
if mark ~= 'whole' then
  -- A worker that dies before it has set these aside leaves their names to the next one.
  local was = redis.call('GET', KEYS[2]) or ''
  local names = (string.match(was, ' .*$') or '') .. (left_out[1] and ' ' .. table.concat(left_out, ' ') or '')
  mark = (was == 'whole' or #names > MAX_LEFT_OUT) and 'whole' or mark .. names
end
redis.call('SET', KEYS[2], mark)
return reply
