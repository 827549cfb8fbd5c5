-- Redeeming, in the steps that redeem and checkout take. a: user user_bucket order order_bucket token value currency digits
-- items, as the arguments come, and the keys orders and users. r: the request as `start` gives it.

-- The standing redemption of this code by the same user for the same order; nil if none, or if facts are lacking.
local function redeemed_before(r, a)
  r.kind, r.user, r.order, r.token, r.users = 'redeem', a.user, given(a.order), given(a.token), a.users
  r.value, r.currency = tonumber(a.value), given(a.currency)
  r.entry = r.order and redis.call('HGET', a.orders, a.order)
  r.places = places(r.entry)
  for _, p in ipairs(r.places) do
    local e = not p.kept and stands(r.c, p.event) and facts_of(p.event)
    if e and e.user == a.user then return e end
  end
end

-- The refusal's reply; nil if the redemption is allowed.
local function redeem_refused(r, a)
  local c, book, max, now = r.c, r.book, r.max, r.now
  read_terms(book)
  a.currency = book.currency or r.workspace.currency -- another one is refused
  r.digits = book.currency and book.digits or r.workspace.digits
  if not r.currency and tonumber(a.digits) > tonumber(r.digits) then return { OUT.invalid } end
  if r.token then
    local l = lock_by_token(c, max, r.token, now)
    if l and l.user == a.user and (l.order == '-' or l.order == a.order) then r.own = l end
  else
    r.own = lock_of(c, max, a.user, a.order, now)
  end
  local outcome
  judge(r, function(refusal) outcome = refusal return true end)
  if outcome == OUT.coupon_locked then return { outcome, retry_after(r) } end
  if outcome then return { outcome } end
end

-- Apply the redemption. Returns how many free codes it took.
local function redeem(r, a, event)
  if r.c.uses == 0 and not r.own then redis.call('HSET', W .. 'n:' .. r.book.number, 'touched', 1) end
  a.event, a.at = event, r.now
  return apply_redeem(r.c, r.book, r.max, a, r.entry, r.own)
end
