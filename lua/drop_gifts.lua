--[[ drop_gifts: remove orders' gifts whose coupons were removed with an archived book.
Called by service/server/tasks/retention.py, in the worker alone
KEYS  1 gate       string  epoch and state
      2 workspace  string  its settings
ARGV  1 order, 2 order_bucket, and so on
Reply {OK} or {outcome}
Event none
Cost  at most 1 command, and 4 for each of at most 200 orders ]]

-- @include gate gate_refuses
local refusal = gate_refuses(redis.call('GET', KEYS[1]), true, true)
if refusal then return { refusal } end
commit_without_event()
for i = 1, #ARGV, 2 do
  local key = W .. 'g:' .. ARGV[i + 1]
  local code, bucket = string.match(redis.call('HGET', key, ARGV[i]) or '', '^(%S+) (%S+)')
  if code and redis.call('HEXISTS', W .. 'd:' .. bucket, code) == 0 then
    redis.call('HDEL', key, ARGV[i])
    redis.call('HINCRBY', W .. 'y', 'gifts', -1)
  end
end
return { OUT.OK }
