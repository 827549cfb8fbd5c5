-- One redemption rolled back: the event, then what it changes. Needs gate, outbox, events, state. For
-- lua/rollback.lua and rollback_order.lua.

-- Returns its event, nil if this epoch may not write. e: the redemption; restore: whether its use is given
-- back; order: its order's entry, nil if the caller writes it; request: the event's line `r`; entry: the key's or nil.
local function roll_back(e, c, book, now, restore, order, outbox, request, entry)
  local event = append(outbox, rolled_back_event(e, whole(now), restore), request, entry)
  if not event then return nil end
  apply_rollback(c, book, e, now, restore, order)
  return event
end
