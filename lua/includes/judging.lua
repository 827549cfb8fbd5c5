-- The rules of lock, redeem, checkout and validate, in the order in which they are named. Needs gate, coupon.
--
-- To add a rule:
-- 1. Write it in `judge`, at its place in that order. It may read more from Redis, and writes nothing. ask.kind tells
--    lock, redeem (also for checkout) and validate apart.
-- 2. If it needs a new setting of the book: add it to service/engine/formats/stored_settings.py, read_book (includes/book.lua),
--    fast/book_fields.lua or fast/terms.lua, and the table `book` of lua/lock.lua and lua/redeem.lua.
--    tests/unit/test_lua_heads.py is red while one of the texts doesn't have it.
-- 3. In lua/fast/, leave the case (`break`) where the rule may refuse: in fast/usual_redeem.lua, in fast/usual_lock.lua if
--    it refuses locks, in fast/usual_used_up.lua if it comes before `coupon_exhausted`.
-- 4. In tests/lua/requests_at_random.py add values of a setting to KINDS_OF_RULES, of a request to its draws; and a case to
--    PLANTED in tests/lua/test_many.py, which compares the texts, and is red where they differ. tests/lua/test_refusal_order.py has the order.

-- The reply of the first rule that refuses; nil for none. With `reasons`, a list, it stops at none, and adds there what
-- refuses. A refusal is an outcome and its figures, a text of service/engine/domain/figures.py, nil for none. ask: what is asked,
-- nil for none: kind, user, order ('-' for none), token; of its order entry (its places, false for none) and per_order;
-- users (the key of the user's bucket); but for a lock currency, value (as the argument comes), digits (that the amounts
-- need), items, its_currency and its_digits (the workspace's; the book's may replace them), saved_e4 (0; the discount
-- replaces it). Adds own (the live lock that it is under), spent (what the user's bucket has of the book, nil if not read).
local function judge(c, book, max, ask, now, reasons)
  local refusal
  local function fail(outcome, figures)
    if reasons then reasons[#reasons + 1] = figures and outcome .. '/' .. figures or outcome
    else refusal = { outcome, figures } end
    return refusal
  end

  local kind, user, token, own = ask.kind, ask.user, ask.token, nil
  if kind ~= 'lock' then
    if book.currency then ask.its_currency, ask.its_digits = book.currency, book.digits end -- another one is refused
    if not ask.currency and ask.digits - ask.its_digits > 0 then
      if fail(OUT.invalid, ask.its_currency .. '/' .. ask.its_digits .. '/' .. ask.value) then return refusal end
    end
  end
  local has_locks = max ~= 1 or c.lock -- or may have
  if has_locks and token then
    -- @include locks
    local l = lock_by_token(c, max, token, now)
    if l and (not user or l.user == user) and (l.order == '-' or l.order == ask.order) then own = l end
  elseif has_locks and user then
    -- @include locks
    own = lock_of(c, max, user, ask.order, now)
  end
  ask.own = own

  if c.off and fail(OUT.coupon_inactive) then return refusal end
  if not book.active and fail(OUT.book_inactive) then return refusal end
  if book.from and now < book.from and fail(OUT.not_started, whole(book.from)) then return refusal end
  local _, ends_at = limits_of(c, book)
  if ends_at and now >= ends_at and fail(OUT.expired, whole(ends_at)) then return refusal end
  if book.require_assignment and not c.user and fail(OUT.coupon_not_assigned) then return refusal end
  if c.user and user and c.user ~= user and fail(OUT.coupon_assigned_to_other) then return refusal end

  if token and not own and fail(OUT.lock_lost) then return refusal end
  if max and has_locks and not own and c.uses < max then
    -- @include locks
    if c.uses + live_locks(c, max, now) >= max then
      -- @include retry_after
      if fail(OUT.coupon_locked, not reasons and retry_after(c, max, now) or nil) then return refusal end
    end
  end
  if book.require_lock and kind ~= 'lock' and not own and not token and fail(OUT.lock_required) then return refusal end
  if max and c.uses >= max and fail(max == 1 and OUT.coupon_redeemed or OUT.coupon_exhausted) then return refusal end

  -- A lock that counted keeps its use of the user's limit and of the book's total: only what is spent can be in its way.
  local renewal = own and kind == 'lock'
  if book.per_user and user and not renewal then
    ask.spent = redis.call('HGET', ask.users, book.number .. '/' .. user)
    local taken = tonumber(string.match(ask.spent or '0', '^%S+'))
    if not (own and string.find(own.counted, 'u', 1, true)) then
      taken = taken + redis.call('ZCOUNT', W .. 'lu:' .. book.number .. ':' .. user, '(' .. whole(now), '+inf')
    end
    if taken >= book.per_user and fail(OUT.user_redemption_limit, whole(book.per_user)) then return refusal end
  end
  if book.total and not renewal then
    local taken = tonumber(redis.call('HGET', W .. 'n:' .. book.number, 'taken') or '0')
    if not (own and string.find(own.counted, 'b', 1, true)) then
      taken = taken + redis.call('ZCOUNT', W .. 'lb:' .. book.number, '(' .. whole(now), '+inf')
    end
    if taken >= book.total and fail(OUT.out_of_stock, whole(book.total)) then return refusal end
  end
  if ask.entry then
    -- @include orders
    if #places(ask.entry) >= tonumber(ask.per_order) and fail(OUT.order_already_used) then return refusal end
  end
  if kind == 'lock' then return nil end

  local amount, currency = tonumber(ask.value), ask.its_currency
  if book.discount and not amount and fail(OUT.order_value_required, currency) then return refusal end
  if ask.currency and ask.currency ~= currency then
    fail(OUT.currency_mismatch, currency .. '/' .. ask.currency)
  elseif amount and book.least and amount < book.least then
    fail(OUT.order_value_too_low, whole(book.least) .. '/' .. whole(amount) .. '/' .. currency .. '/' .. ask.its_digits)
  elseif book.discount and amount then
    -- @include discounts
    ask.saved_e4 = discount_of(book.discount, book.discount_terms, book.cap, amount, ask.items, ask.its_digits)
    if ask.saved_e4 == 0 then
      fail(OUT.no_discount, book.discount .. '/' .. book.discount_terms .. '/' .. (ask.items == '-' and '-' or 'items'))
    end
  end
  return refusal
end
