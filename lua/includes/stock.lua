-- Notices (event S) that a book runs low or out, one for each crossing. Counts before and after the change show a crossing.

local function cross(outbox, book, now, of, left, took)
  local function say(notice)
    append(outbox, 'S ' .. workspace_number() .. ' ' .. book.number .. ' ' .. notice .. ' ' .. of .. ' '
      .. whole(math.max(left, 0)) .. ' ' .. whole(now), '{}')
  end
  local low = low_of(book)
  if low and left < low and left + took >= low then say('low') end
  if left <= 0 and left + took > 0 then say('out') end
end

-- Check the stock after a change that took so many free codes and uses of the book's total. Locks don't count.
local function watch_stock(outbox, book, now, codes, uses)
  local key = W .. 'n:' .. book.number
  if codes > 0 then
    local n = redis.call('HMGET', key, 'codes', 'assigned', 'redeemed', 'exhausted', 'inactive')
    if n.err then return end -- of the wrong type
    local left = (n[1] or 0) - (n[2] or 0) - (n[3] or 0) - (n[4] or 0) - (n[5] or 0)
    cross(outbox, book, now, 'codes', left, codes)
  end
  if uses > 0 and book.total then
    cross(outbox, book, now, 'uses', book.total - redis.call('HGET', key, 'taken'), uses)
  end
end
