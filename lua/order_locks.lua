--[[ order_locks: list the live locks of an order.
Called by service/server/in_redis/workspace_state.py
KEYS  1 gate       string  epoch and state, read first
      2 workspace  string  its settings
      3 orders     hash    order → places and marks
      4 marks      string  of the order's locks of codes with several uses
ARGV  1 order
Reply {OK, "book_id code user order token deadline left_ms[ hold]", …} or {outcome}
Event none
Cost  at most 4 commands, and 5 for each of at most 200 locks ]]
-- @include gate gate_refuses book coupon locks pricing

local got = redis.call('MGET', KEYS[1], KEYS[2], KEYS[4])
-- Runs while the gate is full or behind, too.
local refusal = gate_refuses(got[1], true, true)
if refusal then return { refusal } end
if not got[2] then return { OUT.recovering } end
local now, reply = read_workspace(got[2]).now, { OUT.OK }

-- Add the live lock that a mark names, if it is there. token: nil of a code with a single use.
local function add(bucket, code, token)
  local c = load_coupon(code, bucket)
  local book = c and read_book(book_number_of(c.entry))
  local max = book and limits_of(c, book)
  local l
  if not c then
    return
  elseif token then
    l = lock_by_token(c, max, token, now)
  elseif c.lock and c.lock.deadline > now then
    l = c.lock
  end
  if l and l.order == ARGV[1] then
    local view = view_of_hold(l.hold, book)
    reply[#reply + 1] = book.id
      .. ' '
      .. code
      .. ' '
      .. l.user
      .. ' '
      .. l.order
      .. ' '
      .. l.token
      .. ' '
      .. l.ends
      .. ' '
      .. whole(l.deadline - now)
      .. view
  end
end

local text = redis.call('HGET', KEYS[3], ARGV[1]) or ''
for bucket, code in string.gmatch(string.match(text, '=.*$') or '', '=(%d+)/([^=]+)') do
  add(bucket, code)
end
for bucket, code, token in string.gmatch(got[3] or '', '(%d+)/(%S-)/(%S+)') do
  add(bucket, code, token)
end
return reply
