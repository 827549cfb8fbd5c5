--[[ put_workspace: project a workspace's settings.
Called by service/engine/hot/projection.py
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 newest       string  the newest version that anything is of
ARGV  1 version  2 settings (service/engine/formats/stored_settings.py)
Reply {OK} or {outcome}; an error where no script could read the settings
Event none
Cost  at most 4 commands ]]
-- @include gate gate_refuses newest book

local got = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
-- Runs while the gate is full or behind, too: configuration goes on. In an opening OPEN is '<epoch> closed'.
local refusal = gate_refuses(got[1], true, true)
if refusal then return { refusal } end
if not is_whole_workspace(ARGV[1] .. ' ' .. ARGV[2]) then
  return redis.error_reply('ERR settings that no script can read')
end
if not got[2] or tonumber(string.match(got[2], '^%S+')) < tonumber(ARGV[1]) then
  local text = marked(ARGV[1] .. ' ' .. ARGV[2], mark_of(got[2] or ''))
  redis.call('SET', KEYS[2], text)
  note_version(KEYS[3], got[3], ARGV[1])
end
return { OUT.OK }
