--[[ drop_book: remove the counters, sets and pool of an archived book. Its settings stay, which refuse its codes.
Called by service/server/tasks/retention.py, in the worker alone
KEYS  1 gate       string  epoch and state
      2 workspace  string  its settings
ARGV  1 book
Reply {OK} or {outcome}
Event none
Cost  at most 12 commands ]]

-- @include gate gate_refuses
local refusal = gate_refuses(redis.call('GET', KEYS[1]), true, true)
if refusal then return { refusal } end
commit_without_event()
for _, set in ipairs({ 'n:', 'f:', 'lb:', 'bl:', 'bh:', 'q:b:' }) do
  redis.call('UNLINK', W .. set .. ARGV[1])
end
for _, set in ipairs({ 'x', 'u', 'a', 'p', 'o' }) do
  redis.call('UNLINK', W .. 'l:' .. ARGV[1] .. ':' .. set)
end
return { OUT.OK }
