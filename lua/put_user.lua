--[[ put_user: project a user's cap on coupons.
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 user         hash    the user's counts and cap
ARGV  1 version  2 max_coupons ('-' for none)
Reply {OK} or {outcome}
Event none
Cost  O(1), 3 commands ]]
-- @include gate

local gate = redis.call('GET', KEYS[1])
local no = gate_refuses(gate, true, true)
if no then return { no } end
local known = redis.call('HGET', KEYS[3], 'cap')
if not known or tonumber(string.match(known, '^%S+')) < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[3], 'cap', ARGV[1] .. ' ' .. ARGV[2])
end
return { OUT.OK }
