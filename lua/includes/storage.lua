-- A workspace's bound of storage in Redis. A worker marks its settings `!1` from the bound on, `!2` beyond a reserve
-- (lua/put_storage.lua); includes/book.lua reads the mark. Needs gate, kept_bytes; OUT.storage_full has its use and
-- bound.

-- The refusal in a full workspace, nil for none: from the bound on of what a full gate refuses too (assignments, gifts,
-- locks), beyond the reserve of all that adds.
local function refuse_full(full, passes_full)
  if full == '1' and passes_full then return nil end
  local kept = redis.call('HMGET', W .. 'y', 'used', 'limit')
  return { OUT.storage_full, (kept[1] or '0') .. '/' .. (kept[2] or '0') }
end
