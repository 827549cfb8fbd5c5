-- What the gate answers: nil to go on, else the outcome. passes_full, passes_behind: whether the script runs though the
-- gate is full, or behind (too many events are not recorded). In Python: service/engine/formats/gate_text.py.
local function gate_refuses(gate, passes_full, passes_behind)
  if REPLID then
    -- No such key. Where a cluster moves the slot key by key this fails, before anything is written
    -- (docs/internals/decisions/0051).
    redis.call('GET', KEYS[1] .. '?')
    if not string.find(redis.call('INFO', 'replication'), 'master_replid:' .. REPLID, 1, true) then
      return OUT.recovering
    end
  end
  if gate == OPEN then return nil end
  if gate == EPOCH .. ' full' then return not passes_full and OUT.behind or nil end
  if gate == EPOCH .. ' behind' then return not passes_behind and OUT.behind or nil end
  return OUT.recovering
end
