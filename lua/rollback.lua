--[[ rollback: take a redemption back, once.
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  its settings
      3 idempotency  string  the key's entry
      4 redemption   string  its record
      5 outbox       stream  one event
ARGV  1 fingerprint  2 restore ('1' or '0')  3 request
Reply {OK, record, book_id, replayed} or {outcome}
Event B
Cost  O(log n) in the coupon's uses, at most 30 commands ]]
-- @include gate outbox book coupon locks counts place holding idempotency orders state rolling

local got = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
local reply, workspace, now = enter(got, true, false)
if reply then return reply end
if not got[4] then return { OUT.redemption_not_found } end
local e = read_redemption(got[4])
if e.rolled_at then return { OUT.already_rolled_back } end
local entry = ARGV[1] ~= '-' and ARGV[1] .. ' ' .. OUT.OK .. ' @' .. e.id or nil
local record = roll_back(e, now, ARGV[2] == '1', KEYS[5], ARGV[3], entry)
if not record then return { OUT.recovering } end
if entry then keep_entry(KEYS[3], entry, workspace) end
return { OUT.OK, record, read_book(e.book).id, 0 }
