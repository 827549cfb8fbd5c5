-- The gate. service/engine/hot/scripts.py puts these before each script:
-- NONCE: it makes the text one that only a verified server has, since its last start.
-- EPOCH: the call's last argument, which ARGV then no longer has.
-- OPEN: the gate's text that lets the script run: '<epoch> open', or '<epoch> closed' where the worker mends.
-- REPLID: nil; where there are replicas, the verified history: a primary that was a replica for a moment has another's.
-- ENTRY_BYTES: how long an entry of the directory may be (service/engine/hot/fitness.py).
-- HOLDER, HOLDS, MISSED: of a request under limits (includes/limits.lua).
-- named: the request's user, or nil; scripts set it before they read a key's entry (includes/idempotency.lua).
-- W: '{pN}:w<workspace>:', before every key of the workspace; from the name of KEYS 2.

-- For includes/facts.lua, which may stand within a block: where in ARGV the facts begin, the script's own arguments
-- + 1; and the names of facts that are neither in the outbox nor handed in (facts_of adds them), nil for none.
local facts_from, lacking = 0, nil

-- For includes/locking.lua: how many expired, and how many live, locks the run still removes. It may be about many
-- coupons.
local prunable, droppable = 400, 1000

-- From the first write on nothing may end a script halfway: then `redis.call` is as `redis.pcall`, so that a key of
-- the wrong type stays as it is, and all else changes (docs/internals/decisions/0029).
local redis = redis
local function commit() redis = { call = redis.pcall, pcall = redis.pcall } end

-- The same for a script without an event: its first write may find the memory full, which ends the script.
local function commit_without_event()
  local writing = { pcall = redis.pcall }
  function writing.call(...)
    local reply = writing.pcall(...)
    local failure = type(reply) == 'table' and reply.err and tostring(reply.err)
    if failure and not string.find(failure, 'WRONGTYPE', 1, true) then error({ err = failure }, 0) end
    return reply
  end
  redis = writing
end

-- The workspace's number, as events have it.
local function workspace_number() return string.match(W, 'w(%d+):$') end

-- A whole number as text. tostring and '..' lose digits above 14 (money, times from year 5138), and cost twice as much.
local function whole(number) return string.format('%d', number) end
