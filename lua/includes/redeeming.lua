-- Redeeming, in the steps that redeem and checkout take. a: user order order_bucket token value currency id digits items,
-- as the arguments come. r: the request as `start` gives it.

-- The id of the standing redemption of this code by the same user for the same order; nil where there is none.
local function redeemed_before(r, a, orders)
  r.kind, r.user, r.order, r.token = 'redeem', a.user, given(a.order), given(a.token)
  r.value, r.currency = tonumber(a.value), given(a.currency)
  r.places = r.order and places(redis.call('HGET', orders, a.order)) or {}
  for _, p in ipairs(r.places) do
    if p.code == r.c.code and p.user == a.user and p.state == 's' then return p.id end
  end
end

-- The reply that refuses it; nil where nothing speaks against it.
local function redeem_refused(r, a)
  local c, book, max, now = r.c, r.book, r.max, r.now
  read_terms(book)
  a.currency = r.currency or book.currency or r.workspace.currency
  r.digits = a.currency == book.currency and book.digits or r.workspace.digits
  if not r.currency and tonumber(a.digits) > tonumber(r.digits) then return { OUT.invalid } end
  if r.token then
    local l = lock_by_token(c, max, r.token, now)
    if l and l.user == a.user and (l.order == '-' or l.order == a.order) then r.own = l end
  else
    r.own = lock_of(c, max, a.user, a.order, now)
  end
  local outcome
  judge(r, function(found) outcome = found return true end)
  if outcome == OUT.coupon_locked then return { outcome, retry_after(r) } end
  if outcome then return { outcome } end
end

-- The event.
local function redeemed_event(r, a)
  a.discount = r.value and whole(discount_of(r.book, r.value, r.digits, a.items)) or '0'
  a.slot = r.order and free_slot(r.places) or 0
  return 'R ' .. workspace_number() .. ' ' .. r.book.number .. ' ' .. r.c.code .. ' ' .. a.user .. ' ' .. a.order
    .. ' ' .. a.id .. ' ' .. a.value .. ' ' .. a.currency .. ' ' .. r.digits .. ' ' .. a.discount .. ' ' .. whole(r.now)
    .. ' ' .. whole(a.slot) .. ' ' .. r.c.bucket .. ' ' .. a.order_bucket .. ' ' .. whole(r.max or 0)
end

-- The deed: the redemption's record, and how many free codes it took.
local function redeem(r, a, event, decided, request)
  if r.c.uses == 0 and not r.own then redis.call('HSET', W .. 'n:' .. r.book.number, 'touched', 1) end
  a.at, a.record = r.now, event .. ' - - ' .. decided .. ' ' .. request
  return a.record, apply_redeem(r.c, r.book, r.max, a, r.places, r.own)
end
