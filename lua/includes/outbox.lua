-- steps/append.lua as a function: the event's id; nil or false where nothing was added. entry: nil for none.
local function append(outbox, decided, request, entry)
  -- @step append
  return event
end
