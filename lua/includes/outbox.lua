local function append(outbox, decided, request, entry)
  -- @step append
  return event
end
