--[[ put_workspace: project a workspace's settings, unless they are from before it moved away.
Called by service/hot/projection.py
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 left         string  the version at which it moved away
      4 newest       string  the newest version that anything is of
ARGV  1 version  2 settings (service/formats/stored_settings.py)
Reply {OK} or {outcome}; an error where no script could read the settings
Event none
Cost  at most 4 commands ]]
-- @include gate gate_refuses newest book

local got = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
-- Runs while the gate is full or behind, too: configuration goes on. In an opening OPEN is '<epoch> closed'.
local refusal = gate_refuses(got[1], true, true)
if refusal then return { refusal } end
if not is_whole_workspace(ARGV[1] .. ' ' .. ARGV[2]) then return redis.error_reply('ERR settings that no script can read') end
if got[3] and tonumber(ARGV[1]) <= tonumber(got[3]) then return { OUT.OK } end
if not got[2] or tonumber(string.match(got[2], '^%S+')) < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[2], ARGV[1] .. ' ' .. ARGV[2])
  note_version(KEYS[4], got[4], ARGV[1])
end
return { OUT.OK }
