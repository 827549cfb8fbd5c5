-- A coupon as clients see it, one string: book_id code status uses max user assigned_at expires_at, its lock that ends
-- soonest (user order deadline), its last standing redemption (id user order at).

local function view(c, book, now)
  local max = limit_of(c, book)
  local till = end_of(c, book)
  local live = live_locks(c, max, now)
  local status
  if max and c.uses >= max then status = max == 1 and 'redeemed' or 'exhausted'
  elseif c.off then status = 'inactive'
  elseif till and now >= till then status = 'expired'
  elseif max and c.uses + live >= max then status = 'locked'
  elseif c.user then status = 'assigned'
  else status = 'available' end
  local lock = '- - -'
  if live > 0 then
    local l = c.lock
    if max ~= 1 then
      local first = redis.call('ZRANGEBYSCORE', W .. 'kd:' .. c.code, '(' .. now, '+inf', 'LIMIT', 0, 1)[1]
      local user, order = string.match(first, '^(%S+) (%S+)$')
      l = lock_of(c, max, user, order, now)
    end
    lock = l.user .. ' ' .. l.order .. ' ' .. whole(l.deadline)
  end
  local last = '- - - -'
  if c.last then
    local user, order, at = string.match(redis.call('GET', W .. 'r:' .. c.last),
      '^%S+ %S+ %S+ R %S+ %S+ %S+ (%S+) (%S+) %S+ %S+ %S+ %S+ %S+ (%S+)')
    last = c.last .. ' ' .. user .. ' ' .. order .. ' ' .. at
  end
  return book.id .. ' ' .. c.code .. ' ' .. status .. ' ' .. whole(c.uses) .. ' '
    .. (max and whole(max) or '-') .. ' ' .. (c.user or '-') .. ' ' .. c.assigned_at
    .. ' ' .. (till and whole(till) or '-') .. ' ' .. lock .. ' ' .. last
end
