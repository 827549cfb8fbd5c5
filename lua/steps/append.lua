-- Add `decided` to the outbox, with the request and, if the request has a key, its entry: the first write of a script, and the
-- last thing that can fail. Leaves the event's id, `event`; nil where this epoch may not write.

local event
if entry then
  event = redis.pcall('XADD', outbox, 'NOMKSTREAM', EPOCH .. '-*', 'd', decided, 'r', request, 'i', entry)
else
  event = redis.pcall('XADD', outbox, 'NOMKSTREAM', EPOCH .. '-*', 'd', decided, 'r', request)
end
if type(event) == 'table' then event = event.ok -- an error: fenced by a later epoch, or no memory
else commit() end
