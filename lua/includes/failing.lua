-- Errors that are one thing's own: they come again however often it is tried. Any other is the server's (its memory is full,
-- it is a replica), and ends the run.
local OWN = { 'WRONGTYPE', 'attempt to', 'bad argument', 'not an integer', 'not a valid float', 'overflow' }

local function end_unless_own(failure)
  local text = type(failure) == 'table' and failure.err or tostring(failure)
  for _, own in ipairs(OWN) do
    if string.find(text, own, 1, true) then return end
  end
  error(failure, 0)
end
