-- Find the code in the directory, or handed in (includes/retired.lua). Returns if there is no such code.
-- Reads got (where the code is handed in, its fourth becomes the record; else it is nil), now, facts_after (the number of the
-- script's own arguments), passes_behind (steps/enter.lua: where it is true the script changes nothing but locks, of
-- which a retired book's codes have none). KEYS 4 bucket; ARGV 2 code. Leaves entry (the directory's), number (its
-- book's), text (the book's settings), is_retired (whether it was handed in).

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
