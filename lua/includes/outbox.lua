-- Add an event to the outbox: the first write of a script, and the last thing that can fail. An entry has one field,
-- `e`, with the lines `d` (decided), `r` (request) and, if there is one, `i` (entry). In Python:
-- service/engine/formats/events.py; includes/facts.lua reads it, too. Returns the event's id; nil where this epoch may
-- not write or memory is full, false without an outbox. outbox: its key; entry: the text under the request's key, nil
-- or false for none. Needs gate.
local function append(outbox, decided, request, entry)
  local kept = entry and '\n' .. entry or ''
  local event = redis.pcall('XADD', outbox, 'NOMKSTREAM', EPOCH .. '-*', 'e', decided .. '\n' .. request .. kept)
  if type(event) == 'table' then return event.ok end -- nil: an error has none; fenced by a later epoch, or no memory
  commit() -- from here on redis.call doesn't raise (includes/gate.lua)
  return event
end
