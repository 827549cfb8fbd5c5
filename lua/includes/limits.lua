-- Around a script, where the request is under limits: service/engine/hot/scripts.py puts the script in the place of
-- `@script`. After the script's KEYS come three counters: requests, misses, misses of the address. Before its ARGV
-- comes '<requests> <misses> <misses of an address> <locks> <key> <sees_reasons>', '-' for no limit. With sees_reasons
-- '0', of a validate that hides its reasons, every refusal is a miss, but those that the book tells. The reply ends
-- with the remaining limits: name, limit, left, seconds, in turn. service/engine/operations/run.py and
-- service/engine/domain/limits.py have these formats, too. validate sets MISSED if a reason is a miss, or all are
-- hidden. A counter's minute begins with its first request; `begin`'s refusals aren't counted.

local limits, used, counters, sees_reasons = {}, {}, {}, nil
local NAMES = { 'requests', 'misses', 'address' }
local MINUTE_MS = 60000

-- What is left, and after how many ms the counter of this number begins anew.
local function rates(number)
  local parts, retry_ms = {}, nil
  for i = 1, 3 do
    if limits[i] then
      local ms = used[i] > 0 and redis.call('PTTL', counters[i]) or MINUTE_MS
      parts[#parts + 1] =
        string.format('%s %d %d %d', NAMES[i], limits[i], math.max(limits[i] - used[i], 0), math.ceil(ms / 1000))
      if i == number then retry_ms = ms end
    end
  end
  return table.concat(parts, ' '), retry_ms
end

local function raise(key)
  local count = redis.pcall('INCR', key) -- what was decided stands, whatever the key holds
  if count == 1 then redis.call('PEXPIRE', key, string.format('%d', MINUTE_MS)) end
  return count
end

local function spend(number)
  if limits[number] then used[number] = raise(counters[number]) end
end

-- Whether the book of the script's coupon has had as many misses as it may; else it has one more. Who asks for another
-- coupon of it is not in the way: nobody can close a book by missing.
local function book_is_missed()
  local prefix = string.sub(KEYS[2], 1, -2)
  local number = string.match(redis.call('HGET', KEYS[4], ARGV[2]) or '', '^%d+')
  if not number then return nil end
  local most = string.match(redis.call('GET', prefix .. 'b:' .. number), ' limits=(%d+)/')
    or string.match(redis.call('GET', KEYS[2]), ' limits=(%d+)/')
  local key = prefix .. 'q:b:' .. number
  if not most then return nil end
  if tonumber(redis.call('GET', key) or '0') >= tonumber(most) then return redis.call('PTTL', key) end
  raise(key)
end

local function begin()
  local requests, misses, address, locks, key, sees =
    string.match(table.remove(ARGV, 1), '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
  sees_reasons, HOLDS = sees == '1', tonumber(locks)
  HOLDER = HOLDS and key
  limits = { tonumber(requests), tonumber(misses), tonumber(address) }
  for i = 3, 1, -1 do
    counters[i] = table.remove(KEYS)
  end
  local got = redis.call('MGET', KEYS[1], counters[1], counters[2], counters[3])
  for i = 1, 3 do
    used[i] = tonumber(got[i + 1] or '0')
  end
  for i = 1, 3 do
    if limits[i] and used[i] >= limits[i] then
      if got[1] ~= OPEN and got[1] ~= EPOCH .. ' full' and got[1] ~= EPOCH .. ' behind' then
        return { OUT.recovering }
      end
      local left, retry_ms = rates(i)
      return { i == 1 and OUT.rate_limited or OUT.too_many_misses, retry_ms, left }
    end
  end
end

local function decide()
  -- @script
end

local refused = begin()
if refused then return refused end
local reply = decide()
if type(reply) == 'string' then -- of a usual lock or redemption (service/engine/formats/script_replies.py)
  local payload, third = string.match(reply, '^(.*)\n(.*)$')
  reply = { OUT.OK, payload or reply, third or '', 0 }
end
local outcome = reply[1]
if outcome == OUT.RECALL or outcome == OUT.recovering or outcome == OUT.behind then return reply end
spend(1)
local missed = outcome == OUT.coupon_not_found or outcome == OUT.coupon_assigned_to_other or MISSED
if not sees_reasons then missed = MISSED or outcome ~= OUT.OK end
if missed then
  spend(2)
  spend(3)
  local retry_ms = sees_reasons and book_is_missed()
  if retry_ms then reply = { OUT.too_many_misses, retry_ms } end
end
if reply[2] == nil then reply[2] = false end
reply[#reply + 1] = (rates())
return reply
