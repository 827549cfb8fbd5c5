-- Notices (event S) that a book runs low or out, one for each crossing of `low` or 0. Needs gate, outbox. left: the
-- count after the change; took: the change; low: the threshold or nil; of: 'codes', 'uses', or
-- 'budget:<l, d or m>:<amount>:<renews>' (includes/budgets.lua), whose counts are amounts.
local function cross(outbox, number, now, of, left, took, low)
  local function say(notice)
    append(
      outbox,
      'S '
        .. workspace_number()
        .. ' '
        .. number
        .. ' '
        .. notice
        .. ' '
        .. of
        .. ' '
        .. whole(math.max(left, 0))
        .. ' '
        .. whole(now),
      '{}'
    )
  end
  if low and left < low and left + took >= low then say('low') end
  if left <= 0 and left + took > 0 then say('out') end
end
