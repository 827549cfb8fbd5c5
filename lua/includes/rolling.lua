-- One redemption rolled back: the event, then what it changes.

-- The id that clients know it by, as service/domain/events.py makes it of the event.
local function id_of(e)
  if e.id ~= '-' then return e.id end
  local epoch, seq = string.match(e.event, '^(%d+)-(%d+)$')
  local low, limb = epoch % 16384, 4294967296
  local seq_high, at_high = math.floor(seq / limb), math.floor(e.at / 65536)
  return string.format('%08x-%04x-7%03x-%04x-%04x%08x', at_high, e.at - at_high * 65536, (epoch - low) / 16384,
    32768 + low, seq_high, seq - seq_high * limb)
end

-- Nil where this epoch may not write. c: its coupon.
local function roll_back(e, c, now, restore, outbox, request, entry)
  local book = read_book(e.book)
  local list = e.order ~= '-' and places(redis.call('HGET', W .. 'o:' .. e.order_bucket, e.order)) or {}
  local event = append(outbox, 'B ' .. e.workspace .. ' ' .. e.book .. ' ' .. e.code .. ' ' .. e.user .. ' ' .. e.order
    .. ' ' .. id_of(e) .. ' ' .. now .. ' ' .. (restore and 1 or 0) .. ' ' .. e.bucket .. ' ' .. e.order_bucket, request, entry)
  if not event then return nil end
  apply_rollback(c, book, e, now, restore, list)
  return event
end
