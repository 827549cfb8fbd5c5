--[[ many: run several requests of a partition in their order, each as its own script would.
KEYS  1 gate  string  epoch and state, read first by each request
ARGV  for each request its script, the number of its further keys, the number of its arguments, these keys, these arguments
Reply {reply or error, …} in the order of the requests
Event those of the requests
Cost  at most 1 command, and the requests' ]]
local ALL = ARGV

-- Redis checks only before a script's first write whether its memory is full. This changes nothing: there is no such key.
local full = redis.pcall('SET', KEYS[1] .. '?', '', 'XX')
full = type(full) == 'table' and full.err and tostring(full.err)
full = full and string.match(full, '^OOM.*')

local function run(name, KEYS, ARGV)
  local named, HOLDER, HOLDS, MISSED -- new for each request; those under limits run alone
  if name == 'lock' then
    -- @script lock
  elseif name == 'redeem' then
    -- @script redeem
  elseif name == 'validate' then
    -- @script validate
  elseif name == 'assign_any' then
    -- @script assign_any
  elseif name == 'assign_code' then
    -- @script assign_code
  elseif name == 'extend' then
    -- @script extend
  elseif name == 'unlock' then
    -- @script unlock
  elseif name == 'checkout' then
    -- @script checkout
  elseif name == 'gift' then
    -- @script gift
  elseif name == 'coupon' then
    -- @script coupon
  elseif name == 'unassign' then
    -- @script unassign
  elseif name == 'rollback' then
    -- @script rollback
  elseif name == 'rollback_order' then
    -- @script rollback_order
  end
end

local replies, count, at, may_write = {}, 0, 1, true
while ALL[at] do
  local name, first = ALL[at], at + 3
  local arguments = first + ALL[at + 1]
  at = arguments + ALL[at + 2]
  local ok, reply = false, full
  if may_write or name == 'unlock' or name == 'validate' or name == 'coupon' then
    ok, reply = pcall(run, name, { KEYS[1], unpack(ALL, first, arguments - 1) }, { unpack(ALL, arguments, at - 1) })
  end
  if not ok then
    -- A table, or a text that begins with the error's kind unless Lua itself raised it.
    local text = tostring(type(reply) == 'table' and reply.err or reply)
    reply = { err = string.find(text, '^%u+ ') and text or 'ERR ' .. text }
  end
  if full and not (reply.err and string.find(reply.err, '^OOM')) then may_write = false end -- Redis no longer checks
  count = count + 1
  replies[count] = reply
end
return replies
