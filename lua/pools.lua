--[[ pools: see that the books' sets of buckets with free codes say what the directory says. Run by reconciling alone.
KEYS  1 gate       string  epoch and state, read first
      2 workspace  string  its settings
ARGV  1 repair ('1' to set right what is wrong, else '')  2 book (whose set names the buckets, or '' to start from the
      directory), then for each bucket its number
Reply {OK, "bucket book", …} of what is missing, or of what is too much where a book is named; or {outcome}
Event none
Cost  O(n) in the buckets, at most 200 of them, and in their codes ]]
-- @include gate

local no = gate_refuses(redis.call('GET', KEYS[1]), true, true)
if no then return { no } end
local found, book = { OUT.OK }, ARGV[2]
for i = 3, #ARGV do
  local bucket, free = ARGV[i], {}
  for _, of in ipairs(redis.call('HVALS', W .. 'd:' .. bucket)) do
    if not string.find(of, '!', 1, true) then free[of] = true end
  end
  if book == '' then
    for of in pairs(free) do
      if redis.call('SISMEMBER', W .. 'f:' .. of, bucket) == 0 then
        found[#found + 1] = bucket .. ' ' .. of
        if ARGV[1] == '1' then redis.call('SADD', W .. 'f:' .. of, bucket) end
      end
    end
  elseif not free[book] and redis.call('SISMEMBER', W .. 'f:' .. book, bucket) == 1 then
    found[#found + 1] = bucket .. ' ' .. book
    if ARGV[1] == '1' then redis.call('SREM', W .. 'f:' .. book, bucket) end
  end
end
return found
