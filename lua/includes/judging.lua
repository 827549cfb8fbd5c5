-- The rules of lock, redeem, checkout and validate, in the order in which they are named. Needs gate, coupon; ask is a
-- table of includes/asks.lua. CONTRIBUTING.md says how to add a rule.
--
-- A function returns true where it ends the judgement: a refusal, unless all are listed. They write nothing.

-- Note a refusal, its figures a text of service/engine/domain/figures.py, nil for none.
local function fail(ask, outcome, figures)
  local reasons = ask.reasons
  if not reasons then
    ask.refusal = { outcome, figures }
    return true
  end
  reasons[#reasons + 1] = figures and outcome .. '/' .. figures or outcome
end

-- The live lock that the request is under, and the order's amounts: those that the lock holds, or the request's in
-- their currency. A lock without a price has none, unless its book's kinds of holds need an amount.
local function judge_amounts(c, book, max, ask, now)
  local own, token, user
  if max ~= 1 or c.lock then
    token, user = ask.token, ask.user
  end
  if token then
    -- @include locks
    own = lock_by_token(c, max, token, now)
    if own and not ((not user or own.user == user) and (own.order == '-' or own.order == ask.order)) then own = nil end
  elseif user then
    -- @include locks
    own = lock_of(c, max, user, ask.order, now)
  end
  ask.own = own

  local hold, needs_amount = own and own.hold, nil
  -- @holds needs_amount book -> needs_amount
  ask.needs_amount = needs_amount and not hold
  ask.is_priced = ask.kind ~= 'lock' or ask.value ~= '-' or ask.currency or ask.amount or ask.needs_amount
  if hold and ask.is_priced then
    -- @include pricing
    ask.is_held = take_hold(ask, read_hold(hold), book.discount)
  end
  if ask.is_priced and not ask.is_held then
    ask.its_currency, ask.its_digits =
      book.currency or ask.usual_currency, book.currency and book.digits or ask.usual_digits
    local currency, digits = ask.currency or ask.usual_currency, ask.currency and ask.its_digits or ask.usual_digits
    -- Where the request names a currency, its own amounts were checked before; what it leaves out is the lock's.
    if
      (ask.items ~= '-' or ask.digits - digits > 0) and (not ask.currency or hold and currency == ask.its_currency)
    then
      -- @include pricing
      local misfit = misfit_of(ask, currency, digits)
      if misfit and fail(ask, OUT.invalid, misfit) then return true end
    end
  end
  if ask.amount then
    -- @include cards
    local misfit = misfit_of_amount(ask.amount, book, ask.its_currency, ask.its_digits)
    return misfit and fail(ask, OUT.invalid, misfit)
  end
end

-- The coupon and its book, then the code's locks and uses. A live lock keeps what was true of the book, the window and
-- the owner when it was made.
local function judge_coupon(c, book, max, ask, now)
  local own, retry_ms = ask.own, nil
  if c.off and fail(ask, OUT.coupon_inactive) then return true end
  if not own then
    if book.status and fail(ask, OUT.book_inactive) then return true end
    if book.from and now < book.from and fail(ask, OUT.not_started, whole(book.from)) then return true end
    local _, ends_at = limits_of(c, book)
    if ends_at and now >= ends_at and fail(ask, OUT.expired, whole(ends_at)) then return true end
    if book.require_assignment and not c.user and fail(ask, OUT.coupon_not_assigned) then return true end
    if c.user and ask.user and c.user ~= ask.user and fail(ask, OUT.coupon_assigned_to_other) then return true end
  end

  if ask.token and not own and fail(ask, OUT.lock_lost) then return true end
  if max and (max ~= 1 or c.lock) and not own and c.uses < max then
    -- @include locks
    if c.uses + live_locks(c, max, now) >= max then
      -- @include retry_after
      if not ask.reasons then retry_ms = retry_after(c, max, now) end
      if fail(ask, OUT.coupon_locked, retry_ms) then return true end
    end
  end
  local refused
  -- @holds judge_held c, ask, now -> refused
  if refused and fail(ask, refused[1], refused[2]) then return true end
  if book.require_lock and ask.kind ~= 'lock' and not own and not ask.token and fail(ask, OUT.lock_required) then
    return true
  end
  if max and c.uses >= max and fail(ask, max == 1 and OUT.coupon_redeemed or OUT.coupon_exhausted) then return true end
  refused = nil
  -- @holds judge_left c -> refused
  return refused and fail(ask, refused[1])
end

-- What the request saves of an order of this value.
local function saving_of(book, ask, value)
  local saved
  -- @holds saving ask, value -> saved
  if saved then return saved end
  -- @include discounts
  return discount_of(book.discount, book.discount_terms, book.cap, value, ask.items, ask.its_digits)
end

-- The limits of the user and the book, in which a live lock has its use, and the order's places.
local function judge_limits(book, ask, now)
  local own, user, value = ask.own, ask.user, tonumber(ask.value)
  if book.per_user and user and not own then
    ask.spent = redis.call('HGET', ask.users, book.number .. '/' .. user)
    local taken = tonumber(string.match(ask.spent or '0', '^%S+'))
      + redis.call('ZCOUNT', W .. 'lu:' .. book.number .. ':' .. user, '(' .. whole(now), '+inf')
    if taken >= book.per_user and fail(ask, OUT.user_redemption_limit, whole(book.per_user)) then return true end
  end
  if book.total and not (own and ask.kind == 'lock') then -- for a redemption it is read in any case: it will be written
    local taken = tonumber(redis.call('HGET', W .. 'n:' .. book.number, 'taken') or '0')
    if not own then
      taken = taken + redis.call('ZCOUNT', W .. 'lb:' .. book.number, '(' .. whole(now), '+inf')
      if taken >= book.total and fail(ask, OUT.out_of_stock, whole(book.total)) then return true end
    end
  end
  local refused
  -- @holds judge_amount book, ask, value, now -> refused
  for _, one in ipairs(refused or {}) do
    if fail(ask, one[1], one[2]) then return true end
  end
  if ask.entry or ask.is_of_another_user then
    -- @include orders
    local is_full = ask.is_of_another_user or count_places(ask.entry) >= tonumber(ask.per_order)
    return is_full and fail(ask, OUT.order_already_used)
  end
end

-- The price: the order's value and currency, the discount, and the amount that the client expects.
local function judge_price(book, ask)
  local value, currency, needs_value = tonumber(ask.value), ask.its_currency, book.discount
  if ask.kind == 'lock' then needs_value = ask.needs_amount end
  if
    needs_value
    and not value
    and not ask.is_held
    and fail(ask, OUT.order_value_required, currency or book.currency or ask.usual_currency)
  then
    return true
  end
  if ask.is_priced and not ask.is_held then
    local its_own, is_refused = ask.currency or value and ask.usual_currency or currency, false
    if its_own ~= currency then
      is_refused = fail(ask, OUT.currency_mismatch, currency .. '/' .. its_own)
    elseif value and book.least and value < book.least then
      local figures = whole(book.least) .. '/' .. whole(value) .. '/' .. currency .. '/' .. ask.its_digits
      is_refused = fail(ask, OUT.order_value_too_low, figures)
    elseif book.discount and value then
      ask.saved_e4 = saving_of(book, ask, value)
      if ask.saved_e4 == 0 and (value == 0 or not ask.left) then -- a card of which nothing is left was refused before
        local figures = book.discount .. '/' .. book.discount_terms .. '/' .. (ask.items == '-' and '-' or 'items')
        is_refused = fail(ask, OUT.no_discount, figures)
      end
    end
    if is_refused then return true end
  end
  if not ask.expected then return end
  if not value then return fail(ask, OUT.order_value_required, currency) end
  local final_e4 = value - ask.saved_e4
  if final_e4 ~= ask.expected then
    local figures = whole(final_e4) .. '/' .. whole(ask.expected) .. '/' .. currency .. '/' .. ask.its_digits
    return fail(ask, OUT.price_changed, figures)
  end
end

-- The reply of the first rule that refuses; nil for none, or where ask.reasons lists all.
local function judge(c, book, max, ask, now)
  if book.status == 'unreadable' and fail(ask, OUT.unavailable) then return ask.refusal end
  local _ = judge_amounts(c, book, max, ask, now)
    or judge_coupon(c, book, max, ask, now)
    or judge_limits(book, ask, now)
    or judge_price(book, ask)
  return ask.refusal
end
