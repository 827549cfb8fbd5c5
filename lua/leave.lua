--[[ leave: take a workspace out of use, because it moves to another partition. Scripts refuse a workspace without
     settings.
Called by service/hot/key_copies.py, in the worker alone
KEYS  1 gate       string  epoch and state, read first
      2 workspace  string  its settings
      3 left       string  the version up to which its settings are not written any more
      4 forgotten  hash    since when orders are remembered
      5 outbox     stream  nothing is added
ARGV  1 version  2 workspace's number  3 the mark's life in ms
Reply {OK, the outbox's last event} or {outcome}
Event none
Cost  at most 5 commands ]]
-- @include gate gate_refuses

-- Runs while the gate is full or behind, too: a move goes on.
local refusal = gate_refuses(redis.call('GET', KEYS[1]), true, true)
if refusal then return { refusal } end
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[3])
redis.call('UNLINK', KEYS[2])
redis.call('HDEL', KEYS[4], ARGV[2])
local last = redis.call('XREVRANGE', KEYS[5], '+', '-', 'COUNT', '1')
return { OUT.OK, last[1] and last[1][1] or '0-0' }
