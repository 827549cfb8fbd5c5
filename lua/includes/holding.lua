-- What a user holds: coupons assigned and not used up, counted by book in the user's hash (`h<book>`, none of 0);
-- those with an end of their own also by code (`x<code>`), so that a count can leave out what is past its window. In
-- Python: service/server/reconcile/user_differences.py. Needs gate.

local BOOKS_A_READ = 200

-- Count the assigned coupon c among those that its user holds.
local function hold(c, book)
  local key = W .. 'u:' .. c.user
  redis.call('HINCRBY', key, 'h' .. book.number, 1)
  if c.expires_at then redis.call('HSET', key, 'x' .. c.code, whole(c.expires_at) .. ' ' .. book.number) end
end

-- Count it there no more.
local function let_go(c, book)
  local key, held = W .. 'u:' .. c.user, 'h' .. book.number
  local left = redis.call('HINCRBY', key, held, -1)
  if type(left) == 'number' and left < 1 then redis.call('HDEL', key, held, 'x' .. c.code) -- else it is of the wrong type
  elseif c.expires_at then redis.call('HDEL', key, 'x' .. c.code) end
end

-- Whether the user holds at least so many coupons now, over all books; without a number how many. key: the user's.
-- Books are read only as far as their ends may decide it.
local function holds(key, now, wanted)
  local byte, find = string.byte, string.find
  -- Books' fields, how many of each, of them ended by themselves; of all books. Without patterns, which cost twice as much.
  local names, counts, gone, most, books = {}, {}, {}, 0, 0
  local fields = redis.call('HSCAN', key, '0', 'MATCH', '[hx]*', 'COUNT', '100000000')[2] -- all of them, at one moment
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if byte(name) == 104 then -- h
      books = books + 1
      names[books], counts[books], most = name, value, most + value
    else
      local at = find(value, ' ', 1, true)
      if tonumber(string.sub(value, 1, at - 1)) <= now then
        local held = 'h' .. string.sub(value, at + 1)
        gone[held], most = (gone[held] or 0) + 1, most - 1
      end
    end
  end
  local least = 0 -- of books that have been read and have not ended
  for first = 1, books, BOOKS_A_READ do
    if wanted and (most < wanted or least >= wanted) then break end
    local keys, before = {}, first - 1
    for i = 1, math.min(BOOKS_A_READ, books - before) do keys[i] = W .. 'b:' .. string.sub(names[before + i], 2) end
    for i, text in ipairs(redis.call('MGET', unpack(keys))) do
      local held, at = names[before + i], 0
      for _ = 1, 4 do at = find(text, ' ', at + 1, true) end
      local till = tonumber(string.sub(text, at + 1, find(text, ' ', at + 1, true) - 1))
      local n = counts[before + i] - (gone[held] or 0)
      if till and till <= now then most = most - n else least = least + n end
    end
  end
  if wanted then return least >= wanted end
  return most
end
