-- The rules of lock, redeem and validate, in the order in which they are named. They may read more from Redis, and
-- write nothing. Reads fail (fail(outcome, figures) says whether to stop; figures are a text of
-- service/engine/domain/figures.py, nil for none), kind ('lock', 'redeem' or 'validate'), c, book, max, users (the key of the
-- user's bucket), per_order, its_currency, its_digits, items, now, now_text (the same as text); of steps/terms.lua:
-- discount_type, discount_terms, cap, least; nil for none: own (the live lock that the request is under), user, token,
-- currency, amount (e4), order_entry (or false). Leaves spent (what the user's bucket has of the book; nil where it
-- wasn't read), saved_e4 (the discount). For steps/refuse.lua and lua/validate.lua; usual_lock.lua, usual_redeem.lua
-- and usual_used_up.lua apply the same rules: change all.

local spent, saved_e4 = nil, 0
for _ = 1, 1 do -- a rule that stops leaves it
  if c.off and fail(OUT.coupon_inactive) then break end
  if not book.active and fail(OUT.book_inactive) then break end
  if book.from and now < book.from and fail(OUT.not_started, whole(book.from)) then break end
  -- @step end
  if ends_at and now >= ends_at and fail(OUT.expired, whole(ends_at)) then break end
  if book.require_assignment and not c.user and fail(OUT.coupon_not_assigned) then break end
  if c.user and user and c.user ~= user and fail(OUT.coupon_assigned_to_other) then break end

  if token and not own and fail(OUT.lock_lost) then break end
  if max and not own and c.uses < max then
    -- @step live
    if c.uses + live >= max and fail(OUT.coupon_locked) then break end
  end
  if book.require_lock and kind ~= 'lock' and not own and not token and fail(OUT.lock_required) then break end
  if max and c.uses >= max and fail(max == 1 and OUT.coupon_redeemed or OUT.coupon_exhausted) then break end

  -- A lock that counted keeps its use of the user's limit and of the book's total: only what is spent can be in its way.
  local renewal = own and kind == 'lock'
  if book.per_user and user and not renewal then
    spent = redis.call('HGET', users, book.number .. '/' .. user)
    local taken = tonumber(string.match(spent or '0', '^%S+'))
    if not (own and string.find(own.counted, 'u', 1, true)) then
      taken = taken + redis.call('ZCOUNT', W .. 'lu:' .. book.number .. ':' .. user, '(' .. now_text, '+inf')
    end
    if taken >= book.per_user and fail(OUT.user_redemption_limit, whole(book.per_user)) then break end
  end
  if book.total and not renewal then
    local taken = tonumber(redis.call('HGET', W .. 'n:' .. book.number, 'taken') or '0')
    if not (own and string.find(own.counted, 'b', 1, true)) then
      taken = taken + redis.call('ZCOUNT', W .. 'lb:' .. book.number, '(' .. now_text, '+inf')
    end
    if taken >= book.total and fail(OUT.out_of_stock, whole(book.total)) then break end
  end
  if order_entry then
    -- @include orders
    if #places(order_entry) >= tonumber(per_order) and fail(OUT.order_already_used) then break end
  end
  if kind == 'lock' then break end

  if discount_type and not amount and fail(OUT.order_value_required, its_currency) then break end
  if currency and currency ~= its_currency then
    fail(OUT.currency_mismatch, its_currency .. '/' .. currency)
  elseif amount and least and amount < least then
    fail(OUT.order_value_too_low, whole(least) .. '/' .. whole(amount) .. '/' .. its_currency .. '/' .. its_digits)
  elseif discount_type and amount then
    -- @step discount
    saved_e4 = discount_e4
    if saved_e4 == 0 then
      fail(OUT.no_discount, discount_type .. '/' .. discount_terms .. '/' .. (items == '-' and '-' or 'items'))
    end
  end
end
