--[[ drop_codes: remove all that is stored of codes of an archived book.
Called by service/server/tasks/retention.py, in the worker alone
KEYS  1 gate       string  epoch and state
      2 workspace  string  its settings
ARGV  1 book, then of each: code, bucket
Reply {OK} or {outcome}
Event none
Cost  at most 1 command, and 9 for each of at most 100 codes ]]

-- @include gate gate_refuses coupon orders
local refusal = gate_refuses(redis.call('GET', KEYS[1]), true, true)
if refusal then return { refusal } end
commit_without_event()
for i = 2, #ARGV, 2 do
  local code, bucket = ARGV[i], ARGV[i + 1]
  local c = load_coupon(code, bucket)
  if c then
    if c.user then
      redis.call('HDEL', W .. 'u:' .. c.user, 'a' .. ARGV[1], 'h' .. ARGV[1], 'x' .. ARGV[1])
      redis.call('UNLINK', W .. 'ue:' .. ARGV[1] .. ':' .. c.user)
    end
    if c.lock and c.lock.order ~= '-' then unmark_lock(c, c.lock) end
    redis.call('HDEL', W .. 'd:' .. bucket, code)
    redis.call('HDEL', W .. 'm:' .. bucket, code)
    redis.call('UNLINK', W .. 'c:' .. code, W .. 's:' .. code, W .. 'k:' .. code, W .. 'kd:' .. code)
  end
end
return { OUT.OK }
