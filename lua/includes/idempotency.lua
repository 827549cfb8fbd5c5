-- An idempotency key's entry: '<fingerprint> <outcome> <payload>', or '<fingerprint> c <until>' while a request outside
-- the hot path runs under it. A payload '@<event>,<event>' names redemptions, and may say more after a space (for these
-- include `replaying`); anything else is answered as it is. In the event it came with, '@.' is that event. Where a script
-- says by `named` which user its request names, that user is '/' in the payload (no id holds one): the repeat names the
-- same, and an entry that names nobody needs no change when a user is deleted. In Python:
-- service/formats/idempotency_entry.py.

local function entry_text(fingerprint, outcome, payload) return fingerprint .. ' ' .. outcome .. ' ' .. payload end

-- Whether a request runs under the key; or this one, where a fingerprint is given.
local function is_claimed(entry, fingerprint)
  local whose, outcome = string.match(entry, '^(%S+) (%S+) ')
  return outcome == 'c' and (not fingerprint or whose == fingerprint)
end

-- Whether it holds an answer off the hot path, which counts against what the workspace may keep.
local function is_counted_entry(entry) return string.find(entry, '^%S+ %d+ %d%d%d %S+ ') end

local named = nil -- set by each script, before it reads an entry

local function without_named(payload) return named and string.gsub(payload, '%S+', { [named] = '/' }) or payload end

-- What a request with a key that is known is answered; nil where its claim has ended.
local function replay(entry, fingerprint, now)
  local known, outcome, payload = string.match(entry, '^(%S+) (%S+) (.*)$')
  if outcome == 'c' and tonumber(payload) <= now then return nil end
  if known ~= fingerprint then return { OUT.idempotency_key_reused } end
  if outcome == 'c' then return { OUT.request_in_progress } end
  if named then payload = string.gsub(payload, '/', { ['/'] = named }) end
  return { tonumber(outcome), payload, '', 1 }
end

-- How scripts start, with what they read first {gate, workspace, idempotency entry}: the reply that ends them, or nil, the
-- workspace's settings and the time.
local function enter(got, passes_full, passes_behind)
  local no = gate_refuses(got[1], passes_full, passes_behind)
  if no then return { no } end
  if not got[2] then return { OUT.recovering } end
  local workspace = read_workspace(got[2])
  local now = clock(workspace)
  return got[3] and replay(got[3], ARGV[1], now - workspace.offset_ms), workspace, now
end

local function keep_entry(key, entry, workspace) redis.call('SET', key, entry, 'PX', workspace.keep_ms) end

local function keep(key, fingerprint, outcome, payload, workspace)
  keep_entry(key, fingerprint .. ' ' .. outcome .. ' ' .. without_named(payload), workspace)
end
