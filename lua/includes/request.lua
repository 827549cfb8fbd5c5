-- How the scripts of requests begin, but for lua/lock.lua and redeem.lua (lua/fast/enter.lua). Needs gate, book;
-- find_coupon, coupon.

-- Judge the gate and the entry of the request's key. KEYS 1 gate 2 workspace 3 idempotency; ARGV 1 fingerprint;
-- passes_full, passes_behind: whether the script runs while the gate is full, or behind (service/engine/hot/scripts.py
-- parses its call: REFUSED_BY_STATE); adds_nothing: whether it runs in a full workspace (includes/storage.lua);
-- lasting: of includes/repeats.lua, what becomes of a stored reply, nil where that answers for good. Returns the reply,
-- of the gate or the stored one; nil to go on, then the workspace's settings (with is_anew where the key has a reply
-- that no longer answers) and the time on its clock.
local function open_request(passes_full, passes_behind, adds_nothing, lasting)
  local got = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3])
  if got[1] ~= OPEN or REPLID then -- where there are replicas, gate_refuses checks the history of an open gate, too
    -- @include gate_refuses
    local refusal = gate_refuses(got[1], passes_full, passes_behind)
    if refusal then return { refusal } end
  end
  if not got[2] then return { OUT.recovering } end
  local workspace = read_workspace(got[2])
  local now = workspace.now
  local reply
  if got[3] then
    -- @include idempotency
    reply = replay(got[3], ARGV[1], now - workspace.offset_ms) -- claims go by the real time
    if lasting and reply and reply[4] then
      reply = lasting(reply, now)
      workspace.is_anew = not reply
    end
  end
  if workspace.full and not reply and not adds_nothing then
    -- @include storage
    reply = refuse_full(workspace.full, passes_full)
  end
  return reply, workspace, now
end

-- The coupon of a code, its book, how often it may be redeemed and when it ends; nil where there is no such code.
local function find_coupon(bucket_key, coupon_key, code, bucket)
  local entry = redis.call('HGET', bucket_key, code)
  if not entry then return nil end
  local c = read_coupon(code, bucket, entry, coupon_key)
  local book = read_book(string.match(entry, '^%d+'))
  return c, book, limits_of(c, book)
end
