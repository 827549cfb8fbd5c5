--[[ pools: see that the books' counts of free codes by bucket say what the directory says. Run by reconciling alone.
KEYS  1 gate       string  epoch and state, read first
      2 workspace  string  its settings
ARGV  1 repair ('1' to set right what is wrong, else '')  2 book (whose counts name the buckets, or '' to start from the
      directory), then for each bucket its number
Reply {OK, "bucket book", …} where too few are counted, or too many where a book is named; or {outcome}
Event none
Cost  O(n) in the buckets, at most 200 of them, and in their codes ]]
-- @include gate free

local no = gate_refuses(redis.call('GET', KEYS[1]), true, true)
if no then return { no } end
local found, book = { OUT.OK }, ARGV[2]
for i = 3, #ARGV do
  local bucket = ARGV[i]
  local free = free_codes(W .. 'd:' .. bucket)
  if book ~= '' then free = { [book] = free[book] or 0 } end
  for of, codes in pairs(free) do
    local key = W .. 'f:' .. of
    local counted = redis.pcall('HGET', key, bucket)
    counted = type(counted) ~= 'table' and tonumber(counted or 0) -- a table is an error: the key is of the wrong type
    if counted and (book == '' and counted < codes or book ~= '' and counted > codes) then
      found[#found + 1] = bucket .. ' ' .. of
      if ARGV[1] == '1' then
        if codes > 0 then redis.call('HSET', key, bucket, codes) else redis.call('HDEL', key, bucket) end
      end
    end
  end
end
return found
