-- A card credited or closed: what that changes. Needs gate, counters (or tally), coupon, locking, place, coupon_counts.

-- kind: credited or closed. Returns how many free codes it took (as apply_redeem does).
local function apply_balance(c, book, kind, amount, at)
  -- @include cards
  local counted, set, score = place(c, book)
  prune_locks(c, limits_of(c, book), at, book)
  change_account(c, book, kind, amount)
  c.max = c.max or 0 -- it has a record from now on
  return settle(c, book, counted, set, score)
end
