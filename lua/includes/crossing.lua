-- Notices (event S) that a book runs low or out, one for each crossing. Counts before and after the change show a
-- crossing: left is after it, took is the change, low the threshold or nil; of: 'codes' or 'uses'.

local function cross(outbox, book, now, of, left, took, low)
  local function say(notice)
    append(outbox, 'S ' .. workspace_number() .. ' ' .. book.number .. ' ' .. notice .. ' ' .. of .. ' '
      .. whole(math.max(left, 0)) .. ' ' .. whole(now), '{}')
  end
  if low and left < low and left + took >= low then say('low') end
  if left <= 0 and left + took > 0 then say('out') end
end
