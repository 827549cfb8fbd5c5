--[[ put_codes: project codes of one book: enter new ones, and what was switched or dated of those that are there.
Called by service/engine/hot/projection.py
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings; only its name is read
      3 newest       string  the newest version that anything is of
ARGV  1 book  2 version of all the codes  3 '1' where fill_pool follows, else ''; then for each code: bucket, code, and
      '' for one that says nothing of its own or "owner at max expires_at active amount"
      (service/engine/formats/stored_settings.py); amount: what a card is issued with, e4
Reply {OK, added, position from 0 of a code that was left out, …} or {outcome}
Event none
Cost  at most 6 commands, and 25 for each of at most 200 codes; 1 for each of them that is new and says nothing of its
      own ]]
-- @include gate gate_refuses unlogged failing newest book coupon counters place coupon_counts locking

local got = redis.call('MGET', KEYS[1], KEYS[3])
-- Runs while the gate is full or behind, too: configuration goes on. In an opening OPEN is '<epoch> closed'.
local refusal = gate_refuses(got[1], true, true)
if refusal then return { refusal } end
local number, new_version, added, book = ARGV[1], tonumber(ARGV[2]), 0, nil
local PLAIN = '- 0 - - 1 -' -- of a code that says nothing of its own
local left_out = {}
local filled = {} -- by bucket, how many new free codes
if ARGV[3] == '1' then
  fills_later = true -- for includes/place.lua
  leave_unlogged()
end

local function put(bucket, code, special, is_new)
  book = book or read_book(number)
  local c = load_coupon(code, bucket)
  local counted, set, score = 'available', nil, nil
  local is_plain = string.match(special, '^%- %d+ %- %- 1 ') -- a card may be, too
  if not is_new then
    if tonumber(c.version) >= new_version or (c.version == '0' and is_plain) then return end
    counted, set, score = place(c, book)
  end
  local held = c.user and not is_used_up(counted)
  if held then count_assigned(c, book, '-1') end
  local owner, at, max, expires_at, active, amount = string.match(special, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
  if active ~= '1' and not is_new then drop_locks(c, limits_of(c, book), book, 0) end -- live and expired ones
  if not (is_new and is_plain) then c.version = ARGV[2] end
  c.expires_at, c.off = tonumber(expires_at), off_word(active == '1', is_blocked(c))
  if is_new then
    c.max = tonumber(max)
    -- @holds open c, amount
    if owner ~= '-' then
      c.user, c.assigned_at, held = owner, at, true
      redis.call('HINCRBY', W .. 'u:' .. owner, 'a' .. number, 1)
    end
  end
  if held then count_assigned(c, book, '1') end
  settle(c, book, counted, set, score)
end

for i = 4, #ARGV, 3 do
  local bucket, code, special = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local idle = special == ''
  local is_new = redis.call('HSETNX', W .. 'd:' .. bucket, code, idle and number or number .. '!') == 1
  local is_put, failure = true, nil
  if not (idle and is_new) then
    is_put, failure = pcall(put, bucket, code, idle and PLAIN or special, is_new)
  elseif not fills_later then
    filled[bucket] = (filled[bucket] or 0) + 1
  end
  if not is_put then -- nobody can use a code that the directory doesn't have
    end_unless_own(failure)
    if is_new then redis.call('HDEL', W .. 'd:' .. bucket, code) end
    left_out[#left_out + 1] = (i - 4) / 3
  elseif is_new then
    added = added + 1
  end
end
for bucket, codes in pairs(filled) do
  redis.call('HINCRBY', W .. 'f:' .. number, bucket, whole(codes))
end
if added > 0 then count(number, 'codes', added) end
note_version(KEYS[3], got[2], ARGV[2])
return { OUT.OK, added, unpack(left_out) }
