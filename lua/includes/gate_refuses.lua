-- What the gate answers: nil to go on, else the outcome.
local function gate_refuses(gate, passes_full, passes_behind)
  if REPLID and not string.find(redis.call('INFO', 'replication'), 'master_replid:' .. REPLID, 1, true) then
    return OUT.recovering
  end
  if gate == OPEN then return nil end
  if gate == EPOCH .. ' full' then return not passes_full and OUT.behind or nil end
  if gate == EPOCH .. ' behind' then return not passes_behind and OUT.behind or nil end
  return OUT.recovering
end
