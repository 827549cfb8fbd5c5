-- Errors that are one thing's own: they come again however often it is tried. Any other is the server's (its memory
-- is full, it is a replica), and ends the run. For lua/block_codes.lua, put_codes.lua and apply_events.lua.
local OWN = { 'WRONGTYPE', 'attempt to', 'bad argument', 'not an integer', 'not a valid float', 'overflow' }

-- failure: as pcall returns it.
local function text_of(failure) return type(failure) == 'table' and failure.err or tostring(failure) end

-- Raises any other error again.
local function end_unless_own(failure)
  local text = text_of(failure)
  for _, own in ipairs(OWN) do
    if string.find(text, own, 1, true) then return end
  end
  error({ err = text }, 0) -- a text alone would reach the caller as of the kind ERR
end
