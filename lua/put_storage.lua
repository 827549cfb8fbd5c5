--[[ put_storage: mark the settings of a workspace that has reached its bound of storage, and store its use and bound;
     or remove both.
Called by service/server/tasks/storage_watch.py, in the worker alone
KEYS  1 gate       string  epoch and state, read first
      2 workspace  string  its settings
      3 kept       hash    hour → bytes of answers; used, limit
ARGV  1 mark ('!1' from the bound on, '!2' beyond the reserve, else '')  2 used_mib  3 limit_mib
Reply {OK} or {outcome}
Event none
Cost  at most 3 commands ]]
-- @include gate gate_refuses book

local got = redis.call('MGET', KEYS[1], KEYS[2])
-- Runs while the gate is full or behind, too.
local refusal = gate_refuses(got[1], true, true)
if refusal then return { refusal } end
if not got[2] then return { OUT.OK } end -- a new workspace, without settings yet
if ARGV[1] == '' then
  redis.call('HDEL', KEYS[3], 'used', 'limit')
else
  redis.call('HSET', KEYS[3], 'used', ARGV[2], 'limit', ARGV[3])
end
local mark = mark_of(got[2])
if mark ~= ARGV[1] then
  local text = marked(string.gsub(got[2], mark, '', 1), ARGV[1])
  redis.call('SET', KEYS[2], text)
end
return { OUT.OK }
