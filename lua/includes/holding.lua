-- What a user holds: coupons assigned and not used up, counted by book in the user's hash (`h<book>`, none of 0); those with
-- an end of their own also by code (`x<code>`), so that a count can leave out what is past its window.

local BOOKS_A_READ = 200

local function hold(c, book)
  local key = W .. 'u:' .. c.user
  redis.call('HINCRBY', key, 'h' .. book.number, 1)
  if c.expires_at then redis.call('HSET', key, 'x' .. c.code, whole(c.expires_at) .. ' ' .. book.number) end
end

local function let_go(c, book)
  local key, held = W .. 'u:' .. c.user, 'h' .. book.number
  local left = redis.call('HINCRBY', key, held, -1)
  if type(left) == 'number' and left < 1 then redis.call('HDEL', key, held, 'x' .. c.code) -- else it is of the wrong type
  elseif c.expires_at then redis.call('HDEL', key, 'x' .. c.code) end
end

-- Whether the user holds at least so many coupons now, over all books; without a number how many. key: the user's.
-- Books are read only as far as their ends may decide it.
local function holds(key, now, wanted)
  local names, counts, gone, most = {}, {}, {}, 0 -- books, how many of each, of them ended by themselves; of all books
  local fields = redis.call('HSCAN', key, '0', 'MATCH', '[hx]*', 'COUNT', '100000000')[2] -- all of them, at one moment
  for i = 1, #fields, 2 do
    if string.byte(fields[i]) == 104 then -- h
      local n = tonumber(fields[i + 1])
      names[#names + 1], counts[#counts + 1], most = string.sub(fields[i], 2), n, most + n
    elseif tonumber(string.match(fields[i + 1], '^%d+')) <= now then
      local number = string.match(fields[i + 1], '%d+$')
      gone[number], most = (gone[number] or 0) + 1, most - 1
    end
  end
  local least = 0 -- of books that have been read and have not ended
  for first = 1, #names, BOOKS_A_READ do
    if wanted and (most < wanted or least >= wanted) then break end
    local keys = {}
    for i = first, math.min(first + BOOKS_A_READ - 1, #names) do keys[#keys + 1] = W .. 'b:' .. names[i] end
    for i, text in ipairs(redis.call('MGET', unpack(keys))) do
      local till, at = tonumber((string.match(text, '^%S+ %S+ %S+ %S+ (%S+)'))), first + i - 1
      local n = counts[at] - (gone[names[at]] or 0)
      if till and till <= now then most = most - n else least = least + n end
    end
  end
  if wanted then return least >= wanted end
  return most
end
