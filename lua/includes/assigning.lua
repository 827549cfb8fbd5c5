-- The rules of an assignment. Needs gate; user_refuses, coupon_counts.

-- The reply that refuses each coupon of the book; nil for none.
local function book_refuses(book, now)
  if book.status then return { book.status == 'unreadable' and OUT.unavailable or OUT.book_inactive } end
  if book.till and now >= book.till then return { OUT.expired, whole(book.till) } end
end

-- The reply that refuses this user another coupon; nil for none. freed: how many of theirs the same change uses up.
local function user_refuses(user, book, max_coupons, now, freed)
  if book.codes_per_user then
    local given_before = tonumber(redis.call('HGET', W .. 'u:' .. user, 'a' .. book.number) or '0')
    if given_before >= book.codes_per_user then return { OUT.user_code_limit, whole(book.codes_per_user) } end
  end
  local cap = redis.call('HGET', W .. 'u:' .. user, 'cap')
  cap = cap and tonumber(string.match(cap, '%S+$')) or tonumber(max_coupons)
  if cap and count_coupons_of(user, now, '0', cap + freed) then return { OUT.user_coupon_limit, whole(cap) } end
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
