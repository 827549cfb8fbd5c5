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
  if redis.call('HINCRBY', key, held, -1) < 1 then redis.call('HDEL', key, held, 'x' .. c.code)
  elseif c.expires_at then redis.call('HDEL', key, 'x' .. c.code) end
end

-- Whether the user holds at least so many coupons now, over all books; without a number how many. fields: the user's hash.
-- Books are read only as far as their ends may decide it.
local function holds(fields, now, wanted)
  local names, held, most = {}, {}, 0 -- books; how many of each; of all books
  for i = 1, #fields, 2 do
    if string.byte(fields[i]) == 104 then -- h
      local number, n = string.sub(fields[i], 2), tonumber(fields[i + 1])
      names[#names + 1], held[number], most = number, n, most + n
    end
  end
  if wanted and most < wanted then return false end
  for i = 1, #fields, 2 do
    if string.byte(fields[i]) == 120 then -- x
      local expires_at, number = string.match(fields[i + 1], '^(%S+) (%S+)$')
      if tonumber(expires_at) <= now and held[number] then held[number], most = held[number] - 1, most - 1 end
    end
  end
  local least = 0 -- of books that have been read and have not ended
  for first = 1, #names, BOOKS_A_READ do
    if wanted and (most < wanted or least >= wanted) then break end
    local keys = {}
    for i = first, math.min(first + BOOKS_A_READ - 1, #names) do keys[#keys + 1] = W .. 'b:' .. names[i] end
    for i, text in ipairs(redis.call('MGET', unpack(keys))) do
      local till, n = tonumber(string.match(text, '^%S+ %S+ %S+ %S+ (%S+)')), held[names[first + i - 1]]
      if till and till <= now then most = most - n else least = least + n end
    end
  end
  if wanted then return least >= wanted end
  return most
end
