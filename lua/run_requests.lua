--[[ run_requests: run several requests of a partition in their order, each as its own script would.
Called by service/engine/hot/turns.py
KEYS  1 gate  string  epoch and state, read first by each request
ARGV  1 keys  that usual requests read; then one argument for each request. Each argument is values as MessagePack, one
      after the other. A request's are: way, places of settings and idempotency entry among the keys of 1, script,
      number of its further keys, these keys, its arguments. Way 0: its own script decides, and the places are 0; 1: a
      usual lock or redemption; 2: a lock or redemption of a code that may be used up, or an assignment of a book that
      may be sold out
Reply {reply or error, …} in the order of the requests, with nil after the last that was decided if there are more
Event those of the requests
Cost  at most 3 commands, one more after each request that its own script decided, and the requests'. Scripts whose
      worst case takes 4 ms or more run alone, but for two assignments. The call ends early where the next could pass 20
      ms ]]
local REQUESTS, unpack_values = ARGV, cmsgpack.unpack

-- Redis checks only before a script's first write whether its memory is full. This changes nothing: there is no such
-- key.
local full = redis.pcall('SET', KEYS[1] .. '?', '', 'XX')
full = type(full) == 'table' and full.err and tostring(full.err)
full = full and string.match(full, '^OOM.*')

-- The reply of the script of this name; nil of one that needs memory if none may write.
local function run(name, KEYS, ARGV, may_write)
  -- new for each request; those under limits run alone
  local W, named, HOLDER, HOLDS, MISSED = string.sub(KEYS[2], 1, -2)
  -- @scripts
end

-- @include fast/usual fast/refusing gate_refuses
local gate = redis.call('GET', KEYS[1])
local passes_lock = not full and not gate_refuses(gate, false, false)
local passes_redeem = not full and not gate_refuses(gate, true, false)

-- The reply to a usual request; nil, having written nothing, where its own script decides.
local function decide_usual(way, settings_at, entry_at, script, _, ...)
  if way == 0 then return nil end
  got = got or command('MGET', unpack_values(REQUESTS[1]))
  if script == 'redeem' then
    local usual = way == 1 and usual_redeem or refuse_redemption
    return passes_redeem and usual(settings_at, entry_at, ...)
  end
  local usual = script == 'assign_any' and refuse_assignment or way == 1 and usual_lock or refuse_lock
  return passes_lock and usual(settings_at, entry_at, ...)
end

local MOST_WORK = 250 -- units of what includes and assignments count: 5 ms, beside what each request takes
local may_write = true
WORK = 0

-- The reply of the request's own script.
local function decide(_, _, entry_at, script, keys_count, ...)
  if script == 'assign_any' then WORK = WORK + 150 end
  write_gathered()
  if entry_at == 0 then
    got = nil -- it may change any entry
  elseif got then
    got[entry_at] = true
  end
  local texts = { ... }
  return run(script, { KEYS[1], unpack(texts, 1, keys_count) }, { unpack(texts, keys_count + 1) }, may_write)
    or { err = full }
end

local replies = {}
for at = 2, #REQUESTS do
  if WORK > MOST_WORK then
    replies[at - 1] = false -- the others have to wait for another call
    break
  end
  local ok, reply = pcall(decide_usual, unpack_values(REQUESTS[at]))
  if ok and not reply then
    ok, reply = pcall(decide, unpack_values(REQUESTS[at]))
  end
  if not ok then
    -- A table, or a text that begins with the error's kind unless Lua itself raised it.
    local text = tostring(type(reply) == 'table' and reply.err or reply)
    reply = { err = string.find(text, '^%u+ ') and text or 'ERR ' .. text }
  end
  local err = type(reply) == 'table' and reply.err
  if full and not (err and string.find(err, '^OOM')) then may_write = false end -- Redis no longer checks
  replies[at - 1] = reply
end
write_gathered()
return replies
