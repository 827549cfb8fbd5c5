--[[ complete_recovery: record in the outbox that the recovery is complete up to here, always as <epoch>-1, after
     fence's <epoch>-0. service/engine/worker/opening/older_postgres.py looks for it there, and compares the nonce with
     the recoveries that Postgres knows: change all.
Called by service/engine/worker/opening/restorer.py
KEYS  1 gate    string  epoch and state, read first
      2 outbox  stream  the epoch's second entry
ARGV  1 nonce
Reply {OK} or {outcome}
Event M
Cost  at most 2 commands ]]
-- OPEN is '<epoch> closed' here (includes/gate.lua).
if redis.call('GET', KEYS[1]) ~= OPEN then return { OUT.recovering } end
redis.call('XADD', KEYS[2], EPOCH .. '-1', 'e', 'M ' .. ARGV[1])
return { OUT.OK }
