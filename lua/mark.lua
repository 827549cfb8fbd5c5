--[[ mark: say how far a mending is, or that it is done. Run by the worker alone.
KEYS  1 gate  string  epoch and state, read first
      2 mend  string  how far the mending is
ARGV  1 mark: 'whole' while all is rebuilt, the last event that was applied again, '' when done
Reply {OK} or {outcome}
Event none
Cost  O(1), 2 commands ]]
if redis.call('GET', KEYS[1]) ~= OPEN then return { OUT.recovering } end
if ARGV[1] == '' then redis.call('DEL', KEYS[2]) else redis.call('SET', KEYS[2], ARGV[1]) end
return { OUT.OK }
