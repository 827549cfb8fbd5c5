--[[ read_values: read values at one moment, and name that moment.
Called by service/engine/hot/inspection.py
KEYS  1 gate    string  epoch and state, read first
      2 outbox  stream  its last entry is the moment
      3 config  string  the last version that is here with all before it
      4 newest  string  the newest version that anything is of
ARGV  for each thing how it is read, its key and its member: h a hash's field, s a string, z a score in a
      zset, Z a zset's first thousand, n its size, t a key's type, H what a card's locks in a hash hold, L what the
      accounts of a book's cards hold (key: the prefix of its workspace's, member: the book)
Reply {OK, last event, config, newest, value…}, {'wrong type'} for the value of a key of another type; or {outcome}
Event none
Cost  at most 3 commands, and 2 for each of at most 480 things; of Z O(n) in at most a thousand members, of H in at
      most 1,000 locks, and of L 8 and 1 for each of at most 1,000 cards ]]
-- @include gate gate_refuses

local got = redis.call('MGET', KEYS[1], KEYS[3], KEYS[4])
-- Runs while the gate is full or behind, too.
local refusal = gate_refuses(got[1], true, true)
if refusal then return { refusal } end
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
local reply = { OUT.OK, last and last[1] or '', got[2] or '0', got[3] or '0' }
for i = 1, #ARGV, 3 do
  local kind, key, member = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local value
  if kind == 'h' then
    value = redis.pcall('HGET', key, member)
  elseif kind == 's' then
    value = redis.pcall('GET', key)
  elseif kind == 'z' then
    value = redis.pcall('ZSCORE', key, member)
  elseif kind == 'n' then
    value = redis.pcall('ZCARD', key)
  elseif kind == 't' then
    value = redis.call('TYPE', key).ok
  elseif kind == 'L' then
    local cards, is_known = {}, true
    for set in string.gmatch('uapo', '.') do
      local some = redis.pcall('ZRANGE', key .. 'l:' .. member .. ':' .. set, 0, 1000)
      is_known = is_known and not some.err and #cards + #some <= 1000
      for _, card in ipairs(is_known and some or {}) do
        cards[#cards + 1] = card
      end
    end
    local sum = 0
    for _, card in ipairs(is_known and cards or {}) do
      local bucket, code = string.match(card, '^(%d+) (%S+)$')
      local account = redis.pcall('HGET', key .. 'm:' .. bucket, code)
      sum = sum + (type(account) == 'string' and string.match(account, '%d+$') or 0)
    end
    value = is_known and whole(sum) -- of more cards it isn't known
  elseif kind == 'H' then
    -- @include cards
    local size = redis.pcall('HLEN', key)
    if type(size) == 'table' then
      value = size
    elseif size <= 2000 then -- of more locks it isn't known
      local flat, sum = redis.call('HGETALL', key), 0
      for i = 1, #flat, 2 do -- a token's name has no space
        if string.find(flat[i], ' ', 1, true) then sum = sum + held_by_stored(flat[i + 1]) end
      end
      value = sum
    end
  else
    value = redis.pcall('ZRANGE', key, 0, 999, 'WITHSCORES')
  end
  if value == nil then value = false end
  if type(value) == 'table' and value.err then
    if not string.find(tostring(value.err), 'WRONGTYPE', 1, true) then return value end
    value = { 'wrong type' }
  end
  reply[#reply + 1] = value
end
return reply
