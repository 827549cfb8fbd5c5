-- An assignment that is allowed, or taken back. Needs gate, counters (or tally), coupon, locking, place, coupon_counts;
-- `assign` also outbox, idempotency, events, view.

-- The coupon's view (includes/view.lua) after the assignment. at: now, as text.
local function assigned_view(c, book, user, now, at)
  local assigned = {
    code = c.code,
    bucket = c.bucket,
    uses = c.uses,
    max = c.max,
    off = c.off,
    expires_at = c.expires_at,
    last = c.last,
    lock = c.lock,
    user = user,
    assigned_at = at,
  }
  return view(assigned, book, now)
end

-- Apply it. gift: the order that it is a gift for {order, bucket}, or nil. Returns how many free codes it took (as
-- apply_redeem does).
local function apply_assign(c, book, user, at, gift)
  local counted, set, score = place(c, book)
  local max = limits_of(c, book)
  prune_locks(c, max, tonumber(at), book)
  c.user, c.assigned_at = user, at
  redis.call('HINCRBY', W .. 'u:' .. user, 'a' .. book.number, 1)
  if not is_used_up(counted) then count_assigned(c, book, '1') end
  if gift then
    local key, value = W .. 'g:' .. gift.bucket, c.code .. ' ' .. c.bucket .. ' ' .. user .. ' ' .. at
    if redis.call('HSET', key, gift.order, value) == 1 then redis.call('HINCRBY', W .. 'y', 'gifts', 1) end
  end
  return settle(c, book, counted, set, score)
end

-- c: an assigned coupon without spent uses. Its locks end with the assignment.
local function apply_unassign(c, book, at)
  local counted, set, score = place(c, book)
  drop_locks(c, limits_of(c, book), book, tonumber(at))
  if not is_used_up(counted) then count_assigned(c, book, '-1') end
  local key, field = W .. 'u:' .. c.user, 'a' .. book.number
  if redis.call('HINCRBY', key, field, -1) == 0 then redis.call('HDEL', key, field) end
  c.user, c.assigned_at = nil, '-'
  settle(c, book, counted, set, score)
end

-- Assign it, and return the reply. KEYS[3] is the idempotency key's entry, ARGV[1] the fingerprint. request: the
-- event's line `r`; gift: as apply_assign has it.
local function assign(c, book, workspace, now, user, outbox, request, gift)
  local at = whole(now)
  local payload = assigned_view(c, book, user, now, at)
  if lacking then
    -- @include facts
    return recall()
  end
  local entry = entry_of(ARGV[1], 'OUT.OK', payload)
  if not append(outbox, assigned_event(c, book, user, at, gift), request, entry) then return { OUT.recovering } end
  watch_stock(outbox, book, now, apply_assign(c, book, user, at, gift), 0)
  keep_entry(KEYS[3], entry, workspace.keep_ms, workspace.sampled_at)
  return { OUT.OK, payload, '', 0 }
end
