-- What the gate answers: nil to go on, else the outcome. passes_full, passes_behind: whether the script runs though the
-- gate is full, or behind (too many events are not recorded). In Python: service/formats/gate_text.py.
local function gate_refuses(gate, passes_full, passes_behind)
  if REPLID then
    -- No such key. Where a cluster moves the slot key by key this fails, before anything is written (docs/decisions/0051).
    redis.call('GET', KEYS[1] .. '?')
    if not string.find(redis.call('INFO', 'replication'), 'master_replid:' .. REPLID, 1, true) then return OUT.recovering end
  end
  if gate == OPEN then return nil end
  -- For some seconds after a turn (lua/turn.lua), callers name the epoch before it: they act in the new one.
  local old_epoch, new_epoch = string.match(redis.call('GET', string.sub(KEYS[1], 1, -5) .. 'turned') or '', '^(%d+) (%d+)$')
  if old_epoch == EPOCH and gate and string.match(gate, '^%d+') == new_epoch then
    OPEN, EPOCH = new_epoch .. string.sub(OPEN, #EPOCH + 1), new_epoch
    if gate == OPEN then return nil end
  end
  if gate == EPOCH .. ' full' then return not passes_full and OUT.behind or nil end
  if gate == EPOCH .. ' behind' then return not passes_behind and OUT.behind or nil end
  return OUT.recovering
end
