--[[ remove_keys: remove keys: of a partition that is to be rebuilt whole, or of a workspace that moves.
Called by service/engine/worker/opening/restorer.py, in the worker alone
KEYS  1 gate  string  epoch and state, read first
ARGV  keys to remove
Reply {OK} or {outcome}
Event none
Cost  at most 2 commands, O(n) in at most 500 keys ]]
-- OPEN is '<epoch> closed' here in an opening, '<epoch> open' in a move (includes/gate.lua).
if redis.call('GET', KEYS[1]) ~= OPEN then return { OUT.recovering } end
if #ARGV > 0 then redis.call('UNLINK', unpack(ARGV)) end
return { OUT.OK }
