-- Assigning a coupon: its rules and its effect. KEYS[3] is the idempotency key's entry, ARGV[1] the fingerprint. Needs
-- gate, outbox, holding, idempotency, events, lacking, view, state, stock. For lua/assign_any.lua, assign_code.lua,
-- checkout.lua and gift.lua.

-- The reply that refuses each coupon of the book; nil for none.
local function book_refuses(book, now)
  if not book.active then return { OUT.book_inactive } end
  if book.till and now >= book.till then return { OUT.expired, whole(book.till) } end
end

-- The reply that refuses this user another coupon; nil for none. freed: how many of theirs the same change uses up.
local function user_refuses(user, book, max_coupons, now, freed)
  if book.codes_per_user then
    local given_before = tonumber(redis.call('HGET', W .. 'u:' .. user, 'a' .. book.number) or '0')
    if given_before >= book.codes_per_user then return { OUT.user_code_limit, whole(book.codes_per_user) } end
  end
  local key = W .. 'u:' .. user
  local cap = redis.call('HGET', key, 'cap')
  cap = cap and tonumber(string.match(cap, '%S+$')) or tonumber(max_coupons)
  if cap and holds(key, now, cap + freed) then return { OUT.user_coupon_limit, whole(cap) } end
end

-- Whether another user has a live lock on the coupon. It reads 100 locks; more count as another user's.
local function locked_for_another(c, max, user, now)
  if max == 1 then return c.lock and c.lock.deadline > now and c.lock.user ~= user end
  local holders = redis.call('ZRANGEBYSCORE', W .. 'kd:' .. c.code, '(' .. whole(now), '+inf', 'LIMIT', 0, 101)
  for _, holder in ipairs(holders) do
    if string.match(holder, '^%S+') ~= user then return true end
  end
  return #holders > 100
end

-- The coupon's view (includes/view.lua) after the assignment. at: now, as text.
local function assigned_view(c, book, user, now, at)
  local assigned = { code = c.code, bucket = c.bucket, uses = c.uses, max = c.max, off = c.off, expires_at = c.expires_at,
    last = c.last, lock = c.lock, user = user, assigned_at = at }
  return view(assigned, book, now)
end

-- Assign it, and return the reply. request: the event's line `r`; gift: as in includes/state.lua.
local function assign(c, book, keep_ms, now, user, outbox, request, gift)
  local fingerprint, entry = ARGV[1], nil
  local at = whole(now)
  local payload = assigned_view(c, book, user, now, at)
  if lacking[1] then
    -- @include facts
    return recall()
  end
  if fingerprint ~= '-' then entry = fingerprint .. ' ' .. OUT.OK .. ' ' .. without_named(payload) end
  if not append(outbox, assigned_event(c, book, user, at, gift), request, entry) then return { OUT.recovering } end
  watch_stock(outbox, book, now, apply_assign(c, book, user, at, gift), 0)
  if entry then keep_entry(KEYS[3], entry, keep_ms) end
  return { OUT.OK, payload, '', 0 }
end
