-- What is kept of a redemption is the id of its event. Its facts are in the outbox until that is trimmed, which it is
-- only after it was recorded; then Postgres has them, and service/engine/deciding/recall.py hands them in at the end of
-- ARGV, from facts_from on (includes/gate.lua): 'as of', the moment that they are of, then pairs: a name that was asked
-- for, and its record. Names are events; lua/rollback.lua asks for a redemption's id, lua/rollback_order.lua for
-- 'order:…', includes/repeats.lua for 'rolled:…'. A record is '<event> R …', as in the outbox without a gift
-- (includes/events.lua), and the request's part. In Python: service/engine/formats/events.py,
-- service/engine/record/facts/redemption_records.py. Needs gate; replayed, book.

local handed, erased -- read once a run, where they are needed: the facts in ARGV, by name; the field `last` of `e`

-- The moment that facts must be of: this opening (in another, the same id may be another event's) and after the last
-- deletion of a user of the workspace (before it, Postgres named the user), which `last` counts. Facts of another
-- moment are ignored, and asked for again.
local function as_of()
  erased = erased or redis.call('HGET', W .. 'e', 'last') or ''
  return NONCE .. ':' .. EPOCH .. '/' .. erased
end

-- Whether the outbox's entry may still name a user who was deleted since. Postgres has the pseudonym.
local function names_erased(epoch, seq)
  local last_epoch, last = string.match(as_of(), '/(%d+)-(%d+)$')
  if not last then return false end
  epoch, seq, last_epoch, last = tonumber(epoch), tonumber(seq), tonumber(last_epoch), tonumber(last)
  return epoch < last_epoch or (epoch == last_epoch and seq <= last)
end

-- The record of that name; nil where it is neither handed in nor in the outbox. {R}: service/engine/hot/scripts.py.
local function record_of(name)
  if not handed then
    handed = {}
    if ARGV[facts_from + 1] == as_of() then
      for i = facts_from + 2, #ARGV, 2 do
        handed[ARGV[i]] = ARGV[i + 1]
      end
    end
  end
  if handed[name] then return handed[name] end
  local epoch, seq = string.match(name, '^(%d+)-(%d+)$')
  if not epoch or names_erased(epoch, seq) then return nil end
  local entry = redis.call('XRANGE', string.sub(KEYS[1], 1, -5) .. 'outbox', name, name)[1]
  local text = entry and entry[2][2]
  local decided = text and string.match(text, '^({R})')
  if not decided then return nil end
  local from = string.find(text, '\n', 1, true) or #text -- the request's part; patterns would look at each character
  return name .. ' ' .. decided .. ' ' .. string.sub(text, from + 1, (string.find(text, '\n', from + 1, true) or 0) - 1)
end

-- A record's table; without an event where it can't be read.
local function read_record(record)
  -- stylua: ignore
  local event, w, book, code, user, order, _, _, _, discount, at, slot, bucket, order_bucket, _, _, counted_at,
    user_bucket = string.match(record, '^(%S+) {R} ')
  return {
    event = event,
    workspace = w,
    book = book,
    code = code,
    user = user,
    order = order,
    discount = discount,
    at = at,
    slot = slot,
    bucket = bucket,
    order_bucket = order_bucket,
    user_bucket = user_bucket,
    record = record,
    counted_at = counted_at ~= '-' and counted_at or at,
  }
end

-- A redemption read; nil where its facts have to be handed in. A user that is just being deleted has its pseudonym
-- already where its counts have (`e`, lua/erase_user.lua).
local function facts_of(name)
  WORK = (WORK or 0) + 1
  local record = record_of(name)
  if not record then
    lacking = lacking or {}
    lacking[#lacking + 1] = name
    return nil
  end
  local e = read_record(record)
  local moved = e.event and redis.call('HGET', W .. 'e', e.event)
  if moved then
    e.user, e.user_bucket = string.match(moved, '^(%S+) (%S+)$')
    local head, rest = string.match(record, '^(%S+ R %S+ %S+ %S+ )%S+(.*)$')
    e.record = head .. e.user .. rest
  end
  return e
end

-- The reply of a script that can't go on without facts; before it writes anything.
local function recall() return { OUT.RECALL, table.concat(lacking, ' '), as_of() } end

-- A stored reply that names redemptions ('@<event>,<event>': includes/idempotency.lua) with their records and books;
-- any other as it is.
local function replayed(reply)
  local names, more = string.match(reply[2] or '', '^@(%S*) ?(.*)$')
  if not names then return reply end
  local records, books = {}, {}
  for name in string.gmatch(names, '[^,]+') do
    local e = facts_of(name)
    if e then
      records[#records + 1] = e.record
      books[#books + 1] = read_book(e.book).id
    end
  end
  if lacking then return recall() end
  return { reply[1], table.concat(records, '\n'), table.concat(books, ' '), 1, more }
end
