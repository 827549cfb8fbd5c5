-- Events: what the line `d` of an entry says, in words between spaces, '-' for none. w and b: the numbers of workspace
-- and book; cb, ob and ub: the buckets of code, order and user. In Python: service/engine/formats/events.py. Needs
-- gate.
--   O                             an epoch's first entry (lua/fence.lua)
--   M nonce                       all was mended up to here (lua/complete_recovery.lua)
--   A w b code user at cb [order ob]
--   U w b code user at cb [order, whose rollback took its gift back]
--   R w b code user order value currency digits discount at slot cb ob max available locked ub [b code cb of a
-- checkout's gift]
--   B w b code user order id at restore cb ob available
--   C w b code credited|closed amount available at cb
--   S w b low|out codes|uses|budget:… left at   (includes/crossing.lua)
--   K w at
-- available: what is available of a card afterwards; locked: the time of the lock in whose periods it counts.

-- The writers of A, U, B, C and K; includes/redemption.lua and fast/usual_redeem.lua write R. at: ms as text; gift: the
-- order that it is a gift for {order, bucket}, or nil.
local function assigned_event(c, book, user, at, gift)
  local decided = 'A '
    .. workspace_number()
    .. ' '
    .. book.number
    .. ' '
    .. c.code
    .. ' '
    .. user
    .. ' '
    .. at
    .. ' '
    .. c.bucket
  return gift and decided .. ' ' .. gift.order .. ' ' .. gift.bucket or decided
end

local function unassigned_event(c, book, at, order)
  local decided = 'U '
    .. workspace_number()
    .. ' '
    .. book.number
    .. ' '
    .. c.code
    .. ' '
    .. c.user
    .. ' '
    .. at
    .. ' '
    .. c.bucket
  return order and decided .. ' ' .. order or decided
end

-- The id that clients know a redemption by, made of its event (service/engine/formats/redemption_id.py makes the same).
local function id_of(e)
  local epoch, seq = string.match(e.event, '^(%d+)-(%d+)$')
  local low, limb = epoch % 16384, 4294967296
  local seq_high, at_high = math.floor(seq / limb), math.floor(e.at / 65536)
  return string.format(
    '%08x-%04x-7%03x-%04x-%04x%08x',
    at_high,
    e.at - at_high * 65536,
    (epoch - low) / 16384,
    32768 + low,
    seq_high,
    seq - seq_high * limb
  )
end

-- e: the redemption, with balance_after of a card; restore: whether its use is given back.
local function rolled_back_event(e, at, restore)
  return 'B '
    .. e.workspace
    .. ' '
    .. e.book
    .. ' '
    .. e.code
    .. ' '
    .. e.user
    .. ' '
    .. e.order
    .. ' '
    .. id_of(e)
    .. ' '
    .. at
    .. (restore and ' 1 ' or ' 0 ')
    .. e.bucket
    .. ' '
    .. e.order_bucket
    .. ' '
    .. (e.balance_after or '-')
end

-- verb: credited or closed; amount and available: numbers.
local function balance_event(c, book, verb, amount, available, at)
  return 'C '
    .. workspace_number()
    .. ' '
    .. book.number
    .. ' '
    .. c.code
    .. ' '
    .. verb
    .. ' '
    .. whole(amount)
    .. ' '
    .. whole(available)
    .. ' '
    .. at
    .. ' '
    .. c.bucket
end

local function answered_event(at) return 'K ' .. workspace_number() .. ' ' .. at end

-- The readers of what was recorded. Each but read_unassigned returns nil for first where the words are not these.

-- What every `A`, `U`, `B` and `C` says: kind, workspace, book, code, user (of `C` what it did) and the code's bucket.
local function read_fact(decided)
  local kind, pattern = string.sub(decided, 1, 1), nil
  if kind == 'A' then
    pattern = '^(A) (%S+) (%S+) (%S+) (%S+) %S+ (%d+)'
  elseif kind == 'U' then
    pattern = '^(U) (%S+) (%S+) (%S+) (%S+) %S+ (%d+)'
  elseif kind == 'B' then
    pattern = '^(B) (%S+) (%S+) (%S+) (%S+) %S+ %S+ %S+ %S+ (%d+) %d+ %S+$'
  elseif kind == 'C' then
    pattern = '^(C) (%S+) (%S+) (%S+) (%S+) %S+ %S+ %S+ (%d+)$'
  else
    return nil
  end
  return string.match(decided, pattern)
end

-- The fields of an `R` without a gift, in their order: {R} is its pattern, which service/engine/hot/scripts.py fills
-- in.
local function read_redeemed(decided) return string.match(decided, '^{R}$') end

-- What else an `A` says: time; order and its bucket, '' where it is nobody's gift.
local function read_assigned(decided) return string.match(decided, '^A %S+ %S+ %S+ %S+ (%d+) %d+ ?(%S*) ?(%d*)$') end

-- What else a `U` says: time.
local function read_unassigned(decided) return string.match(decided, '^U %S+ %S+ %S+ %S+ (%d+) ') end

-- What else a `B` says: order, time, restore, the order's bucket.
local function read_rolled_back(decided)
  return string.match(decided, '^B %S+ %S+ %S+ %S+ (%S+) %S+ (%d+) ([01]) %d+ (%d+) %S+$')
end

-- What else a `C` says: amount, time.
local function read_balance(decided) return string.match(decided, '^C %S+ %S+ %S+ %S+ (%d+) %d+ (%d+) %d+$') end
