-- How most requests' scripts start: judge the gate and the entry of the request's key, read settings and time.
-- Returns where the gate refuses. Reads got (the script's first reads: gate, workspace, idempotency entry),
-- passes_full, passes_behind (whether to run while the gate is full, or behind; service/engine/hot/scripts.py parses the line
-- that sets them: REFUSED_BY_STATE), named (includes/idempotency.lua).
-- ARGV 1 fingerprint. Leaves reply (the stored one if the key is known; nil to go on), now, per_order,
-- usual_currency, usual_digits, max_coupons, keep_ms, gift_book_id, offset_ms, limits (steps/workspace.lua).

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
