-- How most requests' scripts start. Reads `got`, what they read first {gate, workspace, idempotency entry}; passes_full
-- and passes_behind: whether the script runs though the gate is full, or behind (includes/gate_refuses.lua); ARGV 1
-- fingerprint; `named` (includes/idempotency.lua). Leaves the workspace's settings (steps/workspace.lua), `now`, and
-- `reply`: the stored reply if the key is known, nil to go on.

if got[1] ~= OPEN or REPLID then
  -- Where there are replicas (REPLID), gate_refuses checks the history of an open gate, too.
  -- @include gate_refuses
  local refusal = gate_refuses(got[1], passes_full, passes_behind)
  if refusal then return { refusal } end
end
if not got[2] then return { OUT.recovering } end
local settings = got[2]
-- @step workspace
-- @step clock
local reply
if got[3] then
  -- @include idempotency
  reply = replay(got[3], ARGV[1], now - offset_ms) -- claims go by the real time
end
