-- A book's counters.
local function count(number, name, by) redis.call('HINCRBY', W .. 'n:' .. number, name, by) end
