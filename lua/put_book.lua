--[[ put_book: project a book's settings. Where the merchant has ended its locks (`ended` has changed), set its locked
     coupons aside, from where lua/sweep_locks.lua takes them.
Called by service/engine/hot/projection.py
KEYS  1 gate         string  epoch and state, read first
      2 workspace    string  not read
      3 books        hash    book's uuid → its number
      4 book         string  its settings
      5 newest       string  the newest version that anything is of
ARGV  1 version  2 settings (service/engine/formats/stored_settings.py; the book's uuid second)  3 number
Reply {OK} or {outcome}; an error where no script could read the settings
Event none
Cost  at most 9 commands ]]
-- @include gate gate_refuses newest book

local got = redis.call('MGET', KEYS[1], KEYS[4], KEYS[5])
-- Runs while the gate is full or behind, too: configuration goes on. In an opening OPEN is '<epoch> closed'.
local refusal = gate_refuses(got[1], true, true)
if refusal then return { refusal } end
local book = read_book(ARGV[3], ARGV[1] .. ' ' .. ARGV[2])
if not is_whole_book(book) then return redis.error_reply('ERR settings that no script can read') end
local version, is_unreadable =
  string.match(got[2] or '', '^%S+'), string.find(got[2] or '', ' status=unreadable', 1, true)
-- A book that a worker closed, as it could not read it, may be put again with the same version.
if not version or tonumber(version) < tonumber(ARGV[1]) or version == ARGV[1] and is_unreadable then
  redis.call('SET', KEYS[4], ARGV[1] .. ' ' .. ARGV[2])
  if version and book.ended ~= '' and not is_unreadable and book.ended ~= read_book(ARGV[3], got[2]).ended then
    for _, set in ipairs({ 'u', 'a', 'p', 'o' }) do
      local key = W .. 'l:' .. ARGV[3] .. ':' .. set
      redis.pcall('RENAME', key, key .. book.ended) -- returns an error for a key that does not exist
    end
    -- All of them count for nothing; other counts follow coupon by coupon.
    redis.call('UNLINK', W .. 'lb:' .. ARGV[3], W .. 'bl:' .. ARGV[3], W .. 'bh:' .. ARGV[3])
  end
  if not version then -- nothing of the book was applied here yet
    -- @holds begin book
  end
  redis.call('HSET', KEYS[3], string.match(ARGV[2], '^%S+ (%S+)'), ARGV[3])
  note_version(KEYS[5], got[3], ARGV[1])
end
return { OUT.OK }
