--[[ fill_pool: say of buckets of the directory which books have free codes in them, where everything was rebuilt.
Called by service/engine/worker/opening/restorer.py
KEYS  1 gate       string  epoch and state, read first
      2 workspace  string  its settings; only its name is read
ARGV  for each bucket its number, the first of them as a reply had it
Reply {OK, bucket…} with those that are left for another run, the first with how far it is; or {outcome}
Event none
Cost  at most 40 commands (a page of HSCAN has some more than it is asked for), 2 for each of at most 500 buckets, and 1
      for each of at most 4,000 books of codes in them ]]
-- @include gate gate_refuses unlogged free

-- OPEN is '<epoch> closed' here (includes/gate.lua).
if gate_refuses(redis.call('GET', KEYS[1]), false, false) then return { OUT.recovering } end
leave_unlogged()
local MOST_CODES = 2000 -- of one bucket, and before another is looked at

-- Where very many codes fall into one bucket, some of them at a time: nothing else writes meanwhile.
local function fill_part(key, at, write)
  local page = redis.call('HSCAN', key, at, 'COUNT', '2000')
  for of, count in pairs(count_free(page[2], 2, 2)) do
    write('HINCRBY', of, count)
  end
  return page[1]
end

local looked = 0
for i, argument in ipairs(ARGV) do
  if looked >= MOST_CODES then return { OUT.OK, unpack(ARGV, i) } end
  local bucket, at = string.match(argument, '^(%d+) ?(%d*)$')
  local key = W .. 'd:' .. bucket
  local function write(verb, of, codes) redis.call(verb, W .. 'f:' .. of, bucket, whole(codes)) end
  local codes = redis.call('HLEN', key)
  if codes > MOST_CODES then
    at = fill_part(key, at == '' and '0' or at, write)
    if at ~= '0' then return { OUT.OK, bucket .. ' ' .. at, unpack(ARGV, i + 1) } end
    codes = MOST_CODES
  else
    for of, count in pairs((free_codes(key))) do
      write('HSET', of, count)
    end
  end
  looked = looked + codes
end
return { OUT.OK }
