--[[ block_codes: make codes unusable of which an event is in quarantine, in a Redis that is being mended: nobody can
     say whether they were used.
Called by service/engine/worker/opening/restorer.py
KEYS  1 gate  string  epoch and state, read first
ARGV  1 '1' where fill_pool follows, else ''; then for each code: its workspace's number, its bucket, the code
Reply {OK, how many of them are here} or {outcome}
Event none
Cost  at most 1 command, and 11 for each of at most 200 codes ]]
-- @include gate gate_refuses unlogged failing book coupon counters place

-- OPEN is '<epoch> closed' here (includes/gate.lua).
if gate_refuses(redis.call('GET', KEYS[1]), false, false) then return { OUT.recovering } end
if ARGV[1] == '1' then
  fills_later = true -- for includes/place.lua
  leave_unlogged()
end

-- Says whether there is such a code.
local function block(bucket, code)
  local c = load_coupon(code, bucket)
  if not c then return false end
  local number = book_number_of(c.entry)
  local text = redis.call('GET', W .. 'b:' .. number)
  if text and not is_blocked(c) then
    local book = read_book(number, text)
    local counted, set, score = place(c, book)
    c.off = off_word(not c.off, true)
    settle(c, book, counted, set, score)
  end
  return true
end

local here = 0
for i = 2, #ARGV, 3 do
  W = string.sub(KEYS[1], 1, -5) .. 'w' .. ARGV[i] .. ':'
  local is_done, result = pcall(block, ARGV[i + 1], ARGV[i + 2])
  if not is_done then
    end_unless_own(result) -- where it returns, no other script can use the code, either
  elseif result then
    here = here + 1
  end
end
return { OUT.OK, here }
