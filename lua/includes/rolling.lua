-- One redemption rolled back: the event, then what it changes.

-- The id that clients know it by, as service/formats/events.py makes it of the event.
local function id_of(e)
  if e.id ~= '-' then return e.id end
  local epoch, seq = string.match(e.event, '^(%d+)-(%d+)$')
  local low, limb = epoch % 16384, 4294967296
  local seq_high, at_high = math.floor(seq / limb), math.floor(e.at / 65536)
  return string.format('%08x-%04x-7%03x-%04x-%04x%08x', at_high, e.at - at_high * 65536, (epoch - low) / 16384,
    32768 + low, seq_high, seq - seq_high * limb)
end

-- Nil where this epoch may not write. c: its coupon; order: its order's entry, nil where the caller writes it.
local function roll_back(e, c, book, now, restore, order, outbox, request, entry)
  local event = append(outbox, 'B ' .. e.workspace .. ' ' .. e.book .. ' ' .. e.code .. ' ' .. e.user .. ' ' .. e.order
    .. ' ' .. id_of(e) .. ' ' .. whole(now) .. (restore and ' 1 ' or ' 0 ') .. e.bucket .. ' ' .. e.order_bucket, request, entry)
  if not event then return nil end
  apply_rollback(c, book, e, now, restore, order)
  return event
end
