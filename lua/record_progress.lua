--[[ record_progress: record the progress of a recovery, or its end.
Called by service/engine/worker/opening/restorer.py
KEYS  1 gate    string  epoch and state, read first
      2 mend    string  how far the mending is (service/engine/formats/recovery_progress.py parses it)
      3 layout  string  the number of the keys' layout
ARGV  1 mark: 'whole' while all is rebuilt, the last event that was applied again, '' when done
      2 layout
Reply {OK} or {outcome}
Event none
Cost  at most 3 commands ]]
-- OPEN is '<epoch> closed' here (includes/gate.lua).
if redis.call('GET', KEYS[1]) ~= OPEN then return { OUT.recovering } end
if ARGV[1] ~= '' then
  redis.call('SET', KEYS[2], ARGV[1])
else
  redis.call('SET', KEYS[3], ARGV[2])
  redis.call('DEL', KEYS[2])
end
return { OUT.OK }
