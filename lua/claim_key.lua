--[[ claim_key: take an idempotency key for a request outside the hot path, while it runs. lua/store_answer.lua stores
     the answer, or releases the key.
Called by service/server/in_redis/workspace_state.py
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 kept         hash    hour → bytes of answers that end in it
ARGV  1 fingerprint  2 claim_ms  3 renew ('1' for a claim that is ours already)  4 bytes that may be kept
Reply {OK}, {OK, payload, "", 1} where it was answered before, or {outcome, retry_ms}
Event none
Cost  at most 4 commands; one reads a field of `kept` for each hour that answers are kept ]]
-- @include gate gate_refuses book idempotency kept_bytes

local got = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
-- Runs while the gate is full or behind, too: configuration goes on.
if gate_refuses(got[1], true, true) or not got[2] then return { OUT.recovering } end
local workspace = read_workspace(got[2])
local now = workspace.now - workspace.offset_ms -- claims go by the real time
if got[3] and ARGV[3] ~= '1' then
  local known = replay(got[3], ARGV[1], now)
  if known then return known end
end
if ARGV[3] == '1' then
  if not is_claimed(got[3] or '', ARGV[1]) then return { OUT.OK } end -- no longer ours: the request goes on unclaimed
else
  local retry_ms = over_budget(KEYS[4], tonumber(ARGV[4]), now)
  if retry_ms then return { OUT.key_quota, retry_ms } end
end
keep_entry(KEYS[3], entry_of(ARGV[1], 'c', whole(now + tonumber(ARGV[2]))), ARGV[2])
return { OUT.OK }
