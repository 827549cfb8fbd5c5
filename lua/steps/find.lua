-- Find the code in the directory, or handed in (includes/retired.lua): its `entry`, the `number` of its book and the
-- `text` of the book's settings; is_retired and got[4], its record, where handed in. Returns if there is no such code.
-- Reads facts_after, the number of the script's own arguments, and passes_behind (steps/enter.lua): where it is true
-- the script changes nothing but locks, of which a retired book's codes have none. KEYS 4 bucket; ARGV 2 code.

local entry = redis.call('HGET', KEYS[4], ARGV[2])
local is_retired = not entry
if is_retired then
  -- @include lacking facts retired
  local missing -- the reply without it
  facts_from = facts_after + 1
  entry, got[4], missing = retired(ARGV[2], not passes_behind, now)
  if missing then return missing end
end
local number = string.match(entry, '^%d+')
local text = redis.call('GET', W .. 'b:' .. number)
