--[[ compare_pools: compare the books' counts of free codes by bucket with the directory.
Called by service/engine/hot/inspection.py
KEYS  1 gate       string  epoch and state, read first
      2 workspace  string  its settings; only its name is read
ARGV  1 repair ('1' to set right what is wrong, else '')  2 book (whose counts name the buckets, or '' to start from the
      directory), then for each bucket its number
Reply {OK, done, "bucket book", …}: how many of the buckets, and where too few are counted, or too many where a book is
      named; or {outcome}
Event none
Cost  at most 1 command, 2 for each of at most 200 buckets, and 2 for each of at most 3,000 books of codes in them.
      A bucket of more than 2,000 codes is left alone ]]
-- @include gate gate_refuses free

-- Runs while the gate is full or behind, too.
local refusal = gate_refuses(redis.call('GET', KEYS[1]), true, true)
if refusal then return { refusal } end
local MOST_CODES = 2000 -- of one bucket
local reply, book, looked = { OUT.OK, 0 }, ARGV[2], 0
for i = 3, #ARGV do
  if looked >= 1000 then break end
  reply[2] = i - 2
  local bucket, free = ARGV[i], {}
  local size = redis.pcall('HLEN', W .. 'd:' .. bucket)
  if type(size) == 'number' and size <= MOST_CODES then -- else it is of the wrong type, or too large
    local here
    free, here = free_codes(W .. 'd:' .. bucket)
    looked = looked + here
    if book ~= '' then free = { [book] = free[book] or 0 } end
  end
  for of, codes in pairs(free) do
    local key = W .. 'f:' .. of
    local known = tonumber(redis.pcall('HGET', key, bucket) or 0) -- nil for an error: the key is of the wrong type
    if known and (book == '' and known < codes or book ~= '' and known > codes) then
      reply[#reply + 1] = bucket .. ' ' .. of
      if ARGV[1] == '1' then
        if codes > 0 then
          redis.call('HSET', key, bucket, whole(codes))
        else
          redis.call('HDEL', key, bucket)
        end
      end
    end
  end
end
return reply
