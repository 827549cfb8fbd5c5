--[[ restore_keys: bring recorded idempotency keys back to a Redis that is being mended; all count against
     what their workspace may store.
Called by service/engine/worker/opening/restorer.py
KEYS  1 gate  string  epoch and state, read first
ARGV  for each: the entry's key, the entry, its remaining life in ms
Reply {OK} or {outcome}
Event none
Cost  at most 2 commands, and 3 for each of at most 500 entries, or 1 MiB of them, or one ]]
-- @include gate gate_refuses idempotency kept_bytes

-- OPEN is '<epoch> closed' here (includes/gate.lua).
if gate_refuses(redis.call('GET', KEYS[1]), false, false) then return { OUT.recovering } end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 1, #ARGV, 3 do
  local key, entry = ARGV[i], ARGV[i + 1]
  -- An answer that is here already is counted; a claim, whose answer was lost with it, is not.
  local was = redis.pcall('GETRANGE', key, '0', '60')
  local is_known = type(was) == 'string' and was ~= '' and not is_claimed(was)
  redis.call('SET', key, entry, 'PX', ARGV[i + 2])
  if not is_known then
    local kept, left_ms = string.match(key, '^{p%d+}:w%d+:') .. 'y', tonumber(ARGV[i + 2])
    if is_counted_entry(entry) then
      count_kept(kept, entry, now, left_ms)
    else
      count_hot(kept, key, entry, now, left_ms, 1)
    end
  end
end
return { OUT.OK }
