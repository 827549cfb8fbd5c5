-- How lock and redeem start, as open_request of includes/request.lua. Returns where the gate refuses. Reads got (gate,
-- workspace, idempotency entry), passes_full, passes_behind, named. ARGV 1 fingerprint.
-- Leaves reply (the stored one if the key is known; nil to go on), now, usual, per_order, usual_currency, usual_digits,
-- full, max_coupons, keep_ms, sampled_at, gift_book_id, offset_ms, limits (fast/settings.lua). For fast/lock.lua and
-- fast/redeem.lua.

if got[1] ~= OPEN or REPLID then
  -- @include gate_refuses
  local refusal = gate_refuses(got[1], passes_full, passes_behind)
  if refusal then return { refusal } end
end
if not got[2] then return { OUT.recovering } end
local settings = got[2]
-- @step settings
local reply
if got[3] then
  -- @include idempotency
  reply = replay(got[3], ARGV[1], now - offset_ms) -- claims go by the real time
end
if full and not reply then
  -- @include storage
  reply = refuse_full(full, passes_full)
end
