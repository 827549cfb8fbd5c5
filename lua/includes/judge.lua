-- The rules of lock, redeem and validate, in the order in which they are named. `fail(outcome)` says whether to stop.
-- r: c, book, max, workspace, now; kind; user, order, token (nil where none); own (the live lock that the request is
-- under); value (e4), currency; places (the order's); users (the key of the user's bucket). Reads what else it needs; writes nothing.

local function judge(r, fail)
  local c, book, max, now, own = r.c, r.book, r.max, r.now, r.own
  if c.off and fail(OUT.coupon_inactive) then return end
  if not book.active and fail(OUT.book_inactive) then return end
  if book.from and now < book.from and fail(OUT.not_started) then return end
  local till = end_of(c, book)
  if till and now >= till and fail(OUT.expired) then return end
  if book.require_assignment and not c.user and fail(OUT.coupon_not_assigned) then return end
  if c.user and r.user and c.user ~= r.user and fail(OUT.coupon_assigned_to_other) then return end

  if r.token and not own and fail(OUT.lock_lost) then return end
  if max and not own and c.uses < max and c.uses + live_locks(c, max, now) >= max and fail(OUT.coupon_locked) then return end
  if book.require_lock and r.kind ~= 'lock' and not own and not r.token and fail(OUT.lock_required) then return end
  if max and c.uses >= max and fail(max == 1 and OUT.coupon_redeemed or OUT.coupon_exhausted) then return end

  -- A lock that counted keeps its use of the user's limit and of the book's total: only what is spent can be in its way.
  local renewal = own and r.kind == 'lock'
  if book.per_user and r.user and not renewal then
    local taken = tonumber(string.match(redis.call('HGET', r.users, book.number .. '/' .. r.user) or '0', '^%S+'))
    if not (own and string.find(own.counted, 'u', 1, true)) then
      taken = taken + redis.call('ZCOUNT', W .. 'lu:' .. book.number .. ':' .. r.user, '(' .. whole(now), '+inf')
    end
    if taken >= book.per_user and fail(OUT.user_redemption_limit) then return end
  end
  if book.total and not renewal then
    local taken = tonumber(redis.call('HGET', W .. 'n:' .. book.number, 'taken') or '0')
    if not (own and string.find(own.counted, 'b', 1, true)) then
      taken = taken + redis.call('ZCOUNT', W .. 'lb:' .. book.number, '(' .. whole(now), '+inf')
    end
    if taken >= book.total and fail(OUT.out_of_stock) then return end
  end
  if #r.places >= tonumber(r.workspace.per_order) and fail(OUT.order_already_used) then return end
  if r.kind == 'lock' then return end

  if book.kind and not r.value and fail(OUT.order_value_required) then return end
  if r.currency and r.currency ~= (book.currency or r.workspace.currency) then
    fail(OUT.currency_mismatch)
  elseif r.value and book.min and r.value < book.min then
    fail(OUT.order_value_too_low)
  end
end
