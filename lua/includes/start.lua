-- How every script about one coupon starts. KEYS 1 gate 2 workspace 3 idempotency 4 bucket 5 coupon;
-- ARGV 1 fingerprint ('-' without a key) 2 code 3 bucket.

-- Returns the request {workspace, now, c, book, max}; or nil and the final reply, for an unknown code also workspace and time.
local function start(passes_full, passes_behind)
  local got = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3], KEYS[5])
  local reply, workspace, now = enter(got, passes_full, passes_behind)
  if reply then return nil, reply end
  local entry = redis.call('HGET', KEYS[4], ARGV[2])
  if not entry then return nil, { OUT.coupon_not_found }, workspace, now end
  local book = read_book(string.match(entry, '^%d+'))
  -- To MGET a record of the wrong type is none; GET fails where the entry, or the book's limit, lets there be one.
  if not got[4] and (book.per_code ~= 1 or string.byte(entry, -1) == 33) then redis.call('GET', KEYS[5]) end
  local c = read_coupon(ARGV[2], ARGV[3], entry, got[4])
  return { workspace = workspace, now = now, c = c, book = book, max = limit_of(c, book) }
end

-- In how many ms the first live lock expires; of a coupon that has one.
local function retry_after(r)
  if r.max == 1 then return r.c.lock.deadline - r.now end
  local key = W .. 'kd:' .. r.c.code
  local first = redis.call('ZRANGEBYSCORE', key, '(' .. whole(r.now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return first[2] - r.now
end
