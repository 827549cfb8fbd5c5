-- Add `decided` to the outbox: the first write of a script, and the last thing that can fail.
-- Reads outbox (its key), decided, request (the event's field `r`), entry (the text under the request's key; nil or
-- false for none). Leaves event (its id; nil where this epoch may not write or memory is full, false without an
-- outbox). For lua/redeem.lua and includes/outbox.lua; steps/usual_redeem.lua has a copy.

local event
if entry then
  event = redis.pcall('XADD', outbox, 'NOMKSTREAM', EPOCH .. '-*', 'd', decided, 'r', request, 'i', entry)
else
  event = redis.pcall('XADD', outbox, 'NOMKSTREAM', EPOCH .. '-*', 'd', decided, 'r', request)
end
if type(event) == 'table' then event = event.ok -- nil: an error has none; fenced by a later epoch, or no memory
else commit() end -- from here on redis.call doesn't raise (includes/gate.lua)
