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
--    PLANTED in tests/lua/test_run_requests.py, which compares the texts, and is red where they differ. tests/lua/test_refusal_order.py has the order.

-- The reply of the first rule that refuses; nil for none. With `reasons`, a list, it stops at none, and adds there what
-- refuses. A refusal is an outcome and its figures, a text of service/engine/domain/figures.py, nil for none. ask: what is asked,
-- nil for none: kind, user, order ('-' for none), token; of its order entry (its places, false for none) and per_order;
-- users (the key of the user's bucket); the order's amounts (includes/pricing.lua), a lock's may have neither value nor
-- currency; expected (the final amount that the client expects, e4); amount (the most it takes of a card); is_anothers (whether
-- another user has the order's gift). Adds own (the live lock that it is under), spent (what the user's bucket has of the book,
-- nil if not read), its_currency and its_digits (the order's), saved_e4 (the discount), left (what it may take of a card).
local function judge(c, book, max, ask, now, reasons)
  local refusal
  local function fail(outcome, figures)
    if reasons then reasons[#reasons + 1] = figures and outcome .. '/' .. figures or outcome
    else refusal = { outcome, figures } end
    return refusal
  end

  local kind, user, token, own = ask.kind, ask.user, ask.token, nil
  local has_locks = max ~= 1 or c.lock -- or may have
  if has_locks and token then
    -- @include locks
    local l = lock_by_token(c, max, token, now)
    if l and (not user or l.user == user) and (l.order == '-' or l.order == ask.order) then own = l end
  elseif has_locks and user then
    -- @include locks
    own = lock_of(c, max, user, ask.order, now)
  end
  ask.own, ask.saved_e4 = own, 0

  local is_card = book.discount == 'balance'
  local is_priced, is_held = kind ~= 'lock' or ask.value ~= '-' or ask.currency or ask.amount, false
  if is_card and not (own and own.hold) then is_priced = true end -- it holds an amount, or nothing
  if own and own.hold and is_priced then
    -- @include pricing
    is_held = take_hold(ask, read_hold(own.hold), book.discount)
  end
  if is_priced and not is_held then
    ask.its_currency, ask.its_digits = book.currency or ask.usual_currency, book.currency and book.digits or ask.usual_digits
    local currency, digits = ask.currency or ask.usual_currency, ask.currency and ask.its_digits or ask.usual_digits
    -- Where the request names a currency, its own amounts were checked before; what it leaves out is the lock's.
    if (ask.items ~= '-' or ask.digits - digits > 0)
      and (not ask.currency or own and own.hold and currency == ask.its_currency) then
      -- @include pricing
      local misfit = misfit_of(ask, currency, digits)
      if misfit and fail(OUT.invalid, misfit) then return refusal end
    end
  end
  if ask.amount then
    -- @include cards
    local misfit = misfit_of_amount(ask.amount, book, ask.its_currency, ask.its_digits)
    if misfit and fail(OUT.invalid, misfit) then return refusal end
  end

  if c.off and fail(OUT.coupon_inactive) then return refusal end
  -- A live lock keeps what was true of the book, the window and the owner when it was made, and its use of each limit.
  if book.status == 'unreadable' and fail(OUT.unavailable) then return refusal end
  if not own then
    if book.status and fail(OUT.book_inactive) then return refusal end
    if book.from and now < book.from and fail(OUT.not_started, whole(book.from)) then return refusal end
    local _, ends_at = limits_of(c, book)
    if ends_at and now >= ends_at and fail(OUT.expired, whole(ends_at)) then return refusal end
    if book.require_assignment and not c.user and fail(OUT.coupon_not_assigned) then return refusal end
    if c.user and user and c.user ~= user and fail(OUT.coupon_assigned_to_other) then return refusal end
  end

  if token and not own and fail(OUT.lock_lost) then return refusal end
  if max and has_locks and not own and c.uses < max then
    -- @include locks
    if c.uses + live_locks(c, max, now) >= max then
      -- @include retry_after
      if fail(OUT.coupon_locked, not reasons and retry_after(c, max, now) or nil) then return refusal end
    end
  end
  local left, funds, is_known -- of a card
  if is_card then
    -- @include cards
    left, funds, is_known = left_of(c, own, now)
    if not is_known and fail(OUT.unavailable) then return refusal end
    if left == 0 and funds > 0 then
      -- @include retry_after
      if fail(OUT.coupon_locked, not reasons and retry_after(c, max, now) or nil) then return refusal end
    end
    ask.left = left
    if left < ask.saved_e4 then is_held = false end -- more than is there: a clock went back
  end
  if book.require_lock and kind ~= 'lock' and not own and not token and fail(OUT.lock_required) then return refusal end
  if max and c.uses >= max and fail(max == 1 and OUT.coupon_redeemed or OUT.coupon_exhausted) then return refusal end
  if funds == 0 and fail(OUT.coupon_exhausted) then return refusal end

  if book.per_user and user and not own then
    ask.spent = redis.call('HGET', ask.users, book.number .. '/' .. user)
    local taken = tonumber(string.match(ask.spent or '0', '^%S+'))
      + redis.call('ZCOUNT', W .. 'lu:' .. book.number .. ':' .. user, '(' .. whole(now), '+inf')
    if taken >= book.per_user and fail(OUT.user_redemption_limit, whole(book.per_user)) then return refusal end
  end
  if book.total and not (own and kind == 'lock') then -- for a redemption it is read in any case: it will be written
    local taken = tonumber(redis.call('HGET', W .. 'n:' .. book.number, 'taken') or '0')
    if not own then
      taken = taken + redis.call('ZCOUNT', W .. 'lb:' .. book.number, '(' .. whole(now), '+inf')
      if taken >= book.total and fail(OUT.out_of_stock, whole(book.total)) then return refusal end
    end
  end
  local amount, currency = tonumber(ask.value), ask.its_currency
  local function saving() -- of an order with an amount: the discount, or what it takes of a card
    if is_card then return math.min(left, amount, ask.amount or amount) end
    -- @include discounts
    return discount_of(book.discount, book.discount_terms, book.cap, amount, ask.items, ask.its_digits)
  end
  if book.bounds then
    local wanted
    if is_priced and not is_held and amount and book.discount and (ask.currency or ask.usual_currency) == currency
      and not (book.least and amount < book.least) then
      wanted = saving()
    end
    if wanted or not own then
      -- @include budgets
      for _, refused in ipairs(judge_bounds(book, user, ask.users, own, wanted, own ~= nil, now)) do
        if fail(refused[1], refused[2]) then return refusal end
      end
    end
  end
  if ask.entry or ask.is_anothers then
    -- @include orders
    local is_full = ask.is_anothers or count_places(ask.entry) >= tonumber(ask.per_order)
    if is_full and fail(OUT.order_already_used) then return refusal end
  end

  local needs_value = book.discount
  if kind == 'lock' then -- which holds an amount
    needs_value = (is_card or book.bounds and string.find(book.bounds, '/a:', 1, true)) and not (own and own.hold)
  end
  if needs_value and not amount and not is_held
    and fail(OUT.order_value_required, currency or book.currency or ask.usual_currency) then
    return refusal
  end
  if is_priced and not is_held then
    local its_own = ask.currency or amount and ask.usual_currency or currency
    if its_own ~= currency then
      fail(OUT.currency_mismatch, currency .. '/' .. its_own)
    elseif amount and book.least and amount < book.least then
      fail(OUT.order_value_too_low, whole(book.least) .. '/' .. whole(amount) .. '/' .. currency .. '/' .. ask.its_digits)
    elseif book.discount and amount then
      ask.saved_e4 = saving()
      if (is_card and amount or ask.saved_e4) == 0 then -- a card of which nothing is left was refused before
        fail(OUT.no_discount, book.discount .. '/' .. book.discount_terms .. '/' .. (ask.items == '-' and '-' or 'items'))
      end
    end
    if refusal then return refusal end
  end
  if ask.expected then
    if not amount then fail(OUT.order_value_required, currency)
    elseif amount - ask.saved_e4 ~= ask.expected then
      fail(OUT.price_changed, whole(amount - ask.saved_e4) .. '/' .. whole(ask.expected) .. '/' .. currency .. '/' .. ask.its_digits)
    end
  end
  return refusal
end
