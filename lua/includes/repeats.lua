-- What becomes of a stored reply (docs/internals/decisions/0116). It answers the repeat while its lock lives, or what
-- it gave or redeemed stands. If a rollback took that back, the repeat is refused; else the functions return nil, and
-- it is decided anew. reply: of `replay`, with a payload. Needs gate, book, coupon; while_locked also locks;
-- while_redeemed and while_bought also facts, events.

-- Of a lock or an extension, whose keys and arguments of the coupon are at the same places. A code that is switched off
-- ends its locks.
local function while_locked(reply, now)
  local entry = redis.call('HGET', KEYS[4], ARGV[2])
  local c = entry and read_coupon(ARGV[2], ARGV[3], entry, KEYS[5])
  local token = string.match(reply[2], '^%S+ %S+ %S+ %S+ (%S+)')
  if not c or c.off then return nil end
  limits_of(c, read_book(book_number_of(entry)))
  return lock_by_token(c, c.max, token, now) and reply or nil
end

-- The code and time of an assignment that a coupon's view (includes/view.lua) shows, and whether it stands: the coupon
-- is somebody's since then. After a deletion of the user it has a pseudonym.
local function assignment_of(payload)
  local code, at = string.match(payload, '^%S+ (%S+) %S+ %S+ %S+ %S+ (%S+)')
  local record = redis.call('GET', W .. 'c:' .. code)
  return code, at, record and string.match(record, '^%S+ %S+ (%S+)') == at
end

local function while_assigned(reply)
  local _, _, is_standing = assignment_of(reply[2])
  return is_standing and reply or nil
end

-- The refusal of what a rollback took back, nil where none did: Postgres says it. name: for `record_of`; id: of the
-- redemption, '-' for none.
local function refuse_rolled_back(name, id)
  -- @include facts
  local at = record_of(name)
  if not at then
    lacking = { name } -- what recall names
    return recall()
  end
  if at ~= '' then return { OUT.already_rolled_back, id .. '/' .. at } end
end

local function while_given(reply)
  local code, at, is_standing = assignment_of(reply[2])
  if is_standing then return reply end
  return refuse_rolled_back('rolled:' .. code .. '/' .. at, '-')
end

-- A redemption that doesn't stand though Postgres has no rollback is one of an archived book, or in quarantine.
local function while_redeemed(reply)
  local event = string.match(reply[2], '^@(%d+%-%d+)')
  local e = event and facts_of(event)
  if lacking then return recall() end
  local c = e and load_coupon(e.code, e.bucket)
  local refusal = e and not (c and stands(c, event)) and refuse_rolled_back('rolled:' .. id_of(e), id_of(e))
  return refusal or replayed(reply)
end

-- A checkout without a redemption is its gift; without either nothing can be taken back.
local function while_bought(reply)
  local gift = string.match(reply[2], '^@ %S+ (%S+ .*)$')
  if not gift then return while_redeemed(reply) end
  local code, at, is_standing = assignment_of(gift)
  if is_standing then return replayed(reply) end
  return refuse_rolled_back('rolled:' .. code .. '/' .. at, '-')
end
