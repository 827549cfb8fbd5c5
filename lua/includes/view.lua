-- A coupon as clients see it, one string: book_id code status uses max user assigned_at expires_at, its lock that
-- ends soonest (user order deadline), its last standing redemption (its event, user order at), and of a card its
-- account. In Python: service/engine/formats/script_replies.py and service/engine/operations/coupon_view.py. `lacking`
-- gets a redemption whose facts only Postgres has. Needs gate, coupon.
local function view(c, book, now)
  local max, ends_at = limits_of(c, book)
  local status, live, lock = nil, 0, '- - -'
  if max ~= 1 or c.lock then
    -- @include locks
    live = live_locks(c, max, now)
    local l = c.lock
    if live > 0 and max ~= 1 then
      local first = redis.call('ZRANGEBYSCORE', W .. 'kd:' .. c.code, '(' .. whole(now), '+inf', 'LIMIT', 0, 1)[1]
      local user, order = string.match(first, '^(%S+) (%S+)$')
      l = lock_of(c, max, user, order, now)
    end
    if live > 0 and l then lock = l.user .. ' ' .. l.order .. ' ' .. l.ends end
  end
  local account
  -- @holds view c, book, now -> account
  if max and c.uses >= max then
    status = max == 1 and 'redeemed' or 'exhausted'
  elseif account and account.left == 0 then
    status = 'exhausted'
  elseif c.off then
    status = 'inactive'
  elseif ends_at and now >= ends_at then
    status = 'expired'
  elseif max and c.uses + live >= max or account and account.is_held then
    status = 'locked'
  elseif c.user then
    status = 'assigned'
  else
    status = 'available'
  end
  local last = '- - - -'
  if c.last then
    -- @include facts
    local e = facts_of(c.last)
    if e then last = e.event .. ' ' .. e.user .. ' ' .. e.order .. ' ' .. e.at end
  end
  return book.id
    .. ' '
    .. c.code
    .. ' '
    .. status
    .. ' '
    .. whole(c.uses)
    .. ' '
    .. (max and whole(max) or '-')
    .. ' '
    .. (c.user or '-')
    .. ' '
    .. c.assigned_at
    .. ' '
    .. (ends_at and whole(ends_at) or '-')
    .. ' '
    .. lock
    .. ' '
    .. last
    .. (account and account.text or '')
end
