--[[ block_codes: make codes unusable of which an event is in quarantine, in a Redis that is being mended: nobody can say
     whether they were used.
KEYS  1 gate  string  epoch and state, read first
ARGV  1 '1' where fill_pool follows, else ''; then for each code: its workspace's number, its bucket, the code
Reply {OK, how many of them are here} or {outcome}
Event none
Cost  O(n) in the codes, at most 200 of them: 12 commands each ]]
-- @include gate unlogged book coupon locks counts place

if redis.call('GET', KEYS[1]) ~= OPEN then return { OUT.recovering } end
if ARGV[1] == '1' then
  fills_later = true
  leave_unlogged()
end
local here = 0
for i = 2, #ARGV, 3 do
  W = '{p' .. PARTITION .. '}:w' .. ARGV[i] .. ':'
  local c = load_coupon(ARGV[i + 2], ARGV[i + 1])
  if c then
    here = here + 1
    local number = string.match(c.entry, '^%d+')
    local text = redis.call('GET', W .. 'b:' .. number)
    if text and not is_blocked(c) then
      local book = read_book(number, text)
      local counted, set, score = place(c, book)
      c.off = off_word(not c.off, true)
      settle(c, book, counted, set, score)
    end
  end
end
return { OUT.OK, here }
