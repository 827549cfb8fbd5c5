--[[ drop_uses: remove the places in orders, and the users' counts, of redemptions of an archived book.
Called by service/server/tasks/retention.py, in the worker alone
KEYS  1 gate       string  epoch and state
      2 workspace  string  its settings
ARGV  1 book, then of each redemption: event, user, user_bucket, order, order_bucket
Reply {OK} or {outcome}
Event none
Cost  at most 1 command, and 4 for each of at most 200 redemptions ]]

-- @include gate gate_refuses orders
local refusal = gate_refuses(redis.call('GET', KEYS[1]), true, true)
if refusal then return { refusal } end
commit_without_event()
for i = 2, #ARGV, 5 do
  local event, user, user_bucket, order, order_bucket = unpack(ARGV, i, i + 4)
  local field = ARGV[1] .. '/' .. user
  redis.call('HDEL', W .. 'o:' .. user_bucket, field, field .. '/')
  local entry = order ~= '-' and entry_of_order(W .. 'o:' .. order_bucket, order)
  if entry then save_order(W .. 'o:' .. order_bucket, order, without_place(entry, event, true)) end
end
return { OUT.OK }
