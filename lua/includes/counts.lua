-- Add to a book's counter. lua/redo.lua has another `count` (includes/tally.lua).
local function count(number, name, by) redis.call('HINCRBY', W .. 'n:' .. number, name, by) end
