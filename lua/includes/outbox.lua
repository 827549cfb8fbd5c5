-- The workspace's number, as events have it.
local function workspace_number() return string.match(W, 'w(%d+):$') end

-- To the outbox: the first write of a script, and the last thing that can fail. Nil where this epoch may not write.
local function append(outbox, decided, request, entry)
  local id
  if entry then
    id = redis.pcall('XADD', outbox, 'NOMKSTREAM', EPOCH .. '-*', 'd', decided, 'r', request, 'i', entry)
  else
    id = redis.pcall('XADD', outbox, 'NOMKSTREAM', EPOCH .. '-*', 'd', decided, 'r', request)
  end
  if type(id) == 'table' then return id.ok end -- an error: fenced by a later epoch, or no memory
  commit()
  return id
end
