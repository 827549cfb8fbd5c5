--[[ put_user: project a user's cap on coupons.
Called by service/engine/hot/projection.py
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  only its name is read
      3 user         hash    the user's counts and cap
      4 newest       string  the newest version that anything is of
ARGV  1 version  2 max_coupons ('-' for none)
Reply {OK} or {outcome}
Event none
Cost  at most 5 commands ]]
-- @include gate gate_refuses newest

local got = redis.call('MGET', KEYS[1], KEYS[4])
-- Runs while the gate is full or behind, too: configuration goes on. In an opening OPEN is '<epoch> closed'.
local refusal = gate_refuses(got[1], true, true)
if refusal then return { refusal } end
local known = redis.call('HGET', KEYS[3], 'cap')
if not known or tonumber(string.match(known, '^%S+')) < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[3], 'cap', ARGV[1] .. ' ' .. ARGV[2])
  if not known then redis.call('HINCRBY', W .. 'y', 'users', 1) end
  note_version(KEYS[4], got[2], ARGV[1])
end
return { OUT.OK }
