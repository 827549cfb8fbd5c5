-- An idempotency key's entry: '<fingerprint> <outcome> <payload>', or '<fingerprint> c <until>' while a request
-- outside the hot path runs under it. A payload '@<event>,<event>' names redemptions, and may say more after a space
-- (includes/facts.lua completes these); anything else is answered as it is. In the event it came with, '@.' is that
-- event. Where a script says by `named` which user its request names, that user is '/' in the payload (no id holds
-- one): the repeat names the same, and an entry that names nobody needs no change when a user is deleted. In Python:
-- service/engine/formats/idempotency_entry.py.

-- The entry of an answer; nil for a request without a key, whose fingerprint is '-'. outcome: as text, which
-- costs 2,300 instructions less: 'OUT.OK' becomes its number within quotes, too (service/engine/hot/scripts.py).
local function entry_of(fingerprint, outcome, payload)
  if fingerprint == '-' then return nil end
  if named then payload = string.gsub(payload, '%S+', { [named] = '/' }) end
  return fingerprint .. ' ' .. outcome .. ' ' .. payload
end

-- entry: nil or false for none. sampled_at: the time if this request is counted for 64 (includes/kept_bytes.lua), else
-- nil or false.
local function keep_entry(key, entry, keep_ms, sampled_at)
  if not entry then return end
  redis.call('SET', key, entry, 'PX', keep_ms)
  if sampled_at then
    -- @include kept_bytes
    count_sampled(W .. 'y', key, entry, sampled_at, keep_ms)
  end
end

-- Whether a request (with a fingerprint: this one) runs under the key.
local function is_claimed(entry, fingerprint)
  local whose, outcome = string.match(entry, '^(%S+) (%S+) ')
  return outcome == 'c' and (not fingerprint or whose == fingerprint)
end

-- Whether it stores an answer off the hot path, which counts against the workspace's budget.
local function is_counted_entry(entry) return string.find(entry, '^%S+ %d+ %d%d%d %S+ ') end

-- The reply to a request with a known key, a stored one with four parts; nil if the key's claim has expired.
local function replay(entry, fingerprint, now)
  local known, outcome, payload = string.match(entry, '^(%S+) (%S+) (.*)$')
  if outcome == 'c' and tonumber(payload) <= now then return nil end
  if known ~= fingerprint then return { OUT.idempotency_key_reused } end
  if outcome == 'c' then return { OUT.request_in_progress } end
  if named then payload = string.gsub(payload, '/', { ['/'] = named }) end
  return { tonumber(outcome), payload, '', 1 }
end
