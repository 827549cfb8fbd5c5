--[[ store_answer: store the answer of the request that claimed an idempotency key; without a payload, release the key.
Called by service/server/in_redis/workspace_state.py
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 outbox       stream  one event
      5 kept         hash    hour → bytes of answers that end in it
ARGV  1 fingerprint  2 payload ('' to let go)  3 request
Reply {OK} or {outcome}
Event K
Cost  at most 6 commands ]]
-- @include gate gate_refuses outbox book idempotency events kept_bytes

local got = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
-- Runs while the gate is full or behind, too: the request is done, and its answer has to be kept.
if gate_refuses(got[1], true, true) or not got[2] then return { OUT.recovering } end
if got[3] and not is_claimed(got[3], ARGV[1]) then return { OUT.OK } end -- stored already, or another's key by now
if ARGV[2] == '' then
  redis.call('DEL', KEYS[3])
  return { OUT.OK }
end
local workspace = read_workspace(got[2])
local now = workspace.now
local entry = entry_of(ARGV[1], 'OUT.OK', ARGV[2])
local event = append(KEYS[4], answered_event(whole(now)), ARGV[3], entry)
if not event then return { OUT.recovering } end
keep_entry(KEYS[3], entry, workspace.keep_ms)
now = now - workspace.offset_ms -- keys expire by the real time
count_kept(KEYS[5], entry, now, tonumber(workspace.keep_ms))
return { OUT.OK }
