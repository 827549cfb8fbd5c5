-- Add to a book's counter, a field of `n:<book>`. lua/redo.lua has another `count` (includes/tally.lua).
local function count(number, name, by) redis.call('HINCRBY', W .. 'n:' .. number, name, by) end
