-- steps/append.lua as a function: the event's id, nil or false if nothing was added. entry: nil for none. Needs gate.
local function append(outbox, decided, request, entry)
  -- @step append
  return event
end
