-- Keep the answer under the request's key (KEYS 3), if it has one (ARGV 1, the fingerprint, isn't '-').
-- Reads outcome, payload, keep_ms (how long), named (the user, stored as '/').
-- The entry's format: includes/idempotency.lua. An outcome that is text already costs 2,300 instructions less:
-- 'OUT.OK' becomes its number within quotes, too (service/engine/hot/scripts.py).

if ARGV[1] ~= '-' then
  local entry = ARGV[1] .. ' ' .. outcome .. ' '
  if named then
    -- @include idempotency
    entry = entry .. without_named(payload)
  else
    entry = entry .. payload
  end
  redis.call('SET', KEYS[3], entry, 'PX', keep_ms)
end
