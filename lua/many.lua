--[[ many: run several requests of a partition in their order, each as its own script would.
Called by service/hot/turns.py
KEYS  1 gate  string  epoch and state, read first by each request
ARGV  for each request its script, the number of its further keys, the number of its arguments, these keys, these arguments;
      or `l` and a lock's keys 2 3 6 7 and arguments, `r` and a redemption's keys 2 3 and arguments, which say its other keys;
      `L` and `R` the same, of a code that may be used up; `a` and an assignment's keys 2 3 and arguments, of a book that may
      be sold out
Reply {reply or error, …} in the order of the requests, with nil after the last that was decided if there are more
Event those of the requests
Cost  at most 2 commands, and the requests'. Scripts whose worst case takes 5 ms or more run alone, but for four assignments ]]
local ALL = ARGV

-- Redis checks only before a script's first write whether its memory is full. This changes nothing: there is no such key.
local full = redis.pcall('SET', KEYS[1] .. '?', '', 'XX')
full = type(full) == 'table' and full.err and tostring(full.err)
full = full and string.match(full, '^OOM.*')

-- The reply of the script of this name; nil of one that needs memory if none may write.
local function run(name, KEYS, ARGV, may_write)
  local W, named, HOLDER, HOLDS, MISSED = string.sub(KEYS[2], 1, -2) -- new for each request; those under limits run alone
  -- @scripts
end

-- @include usual refusing gate_refuses
local gate = redis.call('GET', KEYS[1])
local passes_lock = not full and not gate_refuses(gate, false, false)
local passes_redeem = not full and not gate_refuses(gate, true, false)

local function keys_of_lock(settings_key, idempotency_key, orders_key, users_key, _, code, bucket)
  local W = string.sub(settings_key, 1, -2)
  return { KEYS[1], settings_key, idempotency_key, W .. 'd:' .. bucket, W .. 'c:' .. code, orders_key, users_key }
end

local function keys_of_redeem(settings_key, idempotency_key, _, code, bucket, _, user_bucket, _, order_bucket)
  local W = string.sub(settings_key, 1, -2)
  return { KEYS[1], settings_key, idempotency_key, W .. 'd:' .. bucket, W .. 'c:' .. code, W .. 'o:' .. order_bucket,
    OUTBOX, W .. 'o:' .. user_bucket }
end

local function keys_of_assignment(settings_key, idempotency_key)
  return { KEYS[1], settings_key, idempotency_key, string.sub(settings_key, 1, -2) .. 'x', OUTBOX }
end

local MOST_ASSIGNMENTS = 4 -- that were not refused at once: each may take 18 ms
local replies, count, at, may_write, assignments = {}, 0, 1, true, 0
while ALL[at] do
  local name, first, last, ok, reply = ALL[at], at + 1, nil, true, nil
  if name == 'l' then
    last = at + (4 + ARGS.lock)
    if passes_lock then ok, reply = pcall(usual_lock, unpack(ALL, first, last)) end
  elseif name == 'r' then
    last = at + (2 + ARGS.redeem)
    if passes_redeem then ok, reply = pcall(usual_redeem, unpack(ALL, first, last)) end
  elseif name == 'a' then
    last = at + (2 + ARGS.assign_any)
    if passes_lock then ok, reply = pcall(refuse_assignment, unpack(ALL, first, last)) end
  elseif name == 'L' then
    last = at + (4 + ARGS.lock)
    if passes_lock then ok, reply = pcall(refuse_used_up, ALL[first], ALL[at + 2], ALL[at + 5], ALL[at + 6], ALL[at + 7]) end
  elseif name == 'R' then
    last = at + (2 + ARGS.redeem)
    if passes_redeem then
      ok, reply = pcall(refuse_used_up, ALL[first], ALL[at + 2], ALL[at + 3], ALL[at + 4], ALL[at + 5],
        ALL[at + 8], ALL[at + 9], ALL[at + 10], ALL[at + 12], ALL[at + 14])
    end
  end
  if not reply then
    write_counters()
    local keys, args
    if name == 'l' or name == 'L' then
      name, keys, args = 'lock', keys_of_lock(unpack(ALL, first, last)), { unpack(ALL, at + 5, last) }
    elseif name == 'r' or name == 'R' then
      name, keys, args = 'redeem', keys_of_redeem(unpack(ALL, first, last)), { unpack(ALL, at + 3, last) }
    elseif name == 'a' then
      if assignments == MOST_ASSIGNMENTS then
        replies[count + 1] = false
        break
      end
      assignments = assignments + 1
      name, keys, args = 'assign_any', keys_of_assignment(ALL[first], ALL[at + 2]), { unpack(ALL, at + 3, last) }
    else
      first = at + 3 + ALL[at + 1]
      last = first - 1 + ALL[at + 2]
      keys, args = { KEYS[1], unpack(ALL, at + 3, first - 1) }, { unpack(ALL, first, last) }
    end
    ok, reply = pcall(run, name, keys, args, may_write)
    if not reply then ok, reply = false, full end
  end
  if not ok then
    -- A table, or a text that begins with the error's kind unless Lua itself raised it.
    local text = tostring(type(reply) == 'table' and reply.err or reply)
    reply = { err = string.find(text, '^%u+ ') and text or 'ERR ' .. text }
  end
  if full and not (reply.err and string.find(reply.err, '^OOM')) then may_write = false end -- Redis no longer checks
  count, at = count + 1, last + 1
  replies[count] = reply
end
write_counters()
return replies
