-- What a user holds: coupons assigned and not used up, counted by book in the user's hash (`h<book>`). Those with an
-- end of their own are counted there again (`x<book>`), and a set has their ends (`ue:<book>:<user>`), so that those
-- past their window are counted, not read (docs/internals/decisions/0099). No count is 0. In Python:
-- service/server/reconcile/user_differences.py. Needs gate.

local BOOKS_A_READ = 200
local READS, MOST_BOOKS, MOST_JUDGED = 5, 2000, 1000

-- Count the assigned coupon c among those that its user holds; by: '1', or '-1' for no more.
local function count_assigned(c, book, by)
  local key, number = W .. 'u:' .. c.user, book.number
  local left = redis.call('HINCRBY', key, 'h' .. number, by)
  if type(left) == 'number' and left < 1 then redis.call('HDEL', key, 'h' .. number) end -- else it is of the wrong type
  if not c.expires_at then return end
  left = redis.call('HINCRBY', key, 'x' .. number, by)
  if type(left) == 'number' and left < 1 then redis.call('HDEL', key, 'x' .. number) end
  key = W .. 'ue:' .. number .. ':' .. c.user
  if by == '1' then
    redis.call('ZADD', key, whole(c.expires_at), c.code)
  else
    redis.call('ZREM', key, c.code)
  end
end

-- How many coupons the user holds now, of the books in one read of the hash from a cursor on; then the next cursor, '0'
-- at the end. With `wanted`: whether they are at least so many over all books. Books are read as far as their ends may
-- decide it, at most MOST_JUDGED: coupons of others count as held. True where there are more books, or fields, than it
-- reads.
local function count_coupons_of(user, now, cursor, wanted)
  local byte, find, sub = string.byte, string.find, string.sub -- without patterns, which cost twice as much
  local numbers, counts, dated, most, books, at = {}, {}, {}, 0, 0, cursor
  for _ = 1, wanted and READS or 1 do
    local page = redis.call('HSCAN', W .. 'u:' .. user, at, 'MATCH', '[hx]*', 'COUNT', wanted and '10000' or '1000')
    local fields = page[2]
    for i = 1, #fields, 2 do
      local number = sub(fields[i], 2)
      if byte(fields[i]) == 120 then
        dated[number] = true -- x
      else
        books = books + 1
        numbers[books], counts[books], most = number, fields[i + 1], most + fields[i + 1]
      end
    end
    at = page[1]
    if at == '0' or books > MOST_BOOKS then break end
  end
  local is_part = not wanted and (at ~= '0' or cursor ~= '0') -- then a book's two counts may be in two of them
  if wanted and (at ~= '0' or books > MOST_BOOKS) then return true end
  local least, due_by = 0, whole(now) -- least: of books whose ends were judged
  for first = 1, wanted and math.min(books, MOST_JUDGED) or books, BOOKS_A_READ do
    if wanted and (most < wanted or least >= wanted) then break end
    local keys, before = {}, first - 1
    for i = 1, math.min(BOOKS_A_READ, books - before) do
      local number = numbers[before + i]
      keys[i] = W .. 'b:' .. number
    end
    for i, text in ipairs(redis.call('MGET', unpack(keys))) do
      local number, space, gone = numbers[before + i], 0, 0
      for _ = 1, 4 do
        space = find(text, ' ', space + 1, true)
      end
      local till = tonumber(sub(text, space + 1, find(text, ' ', space + 1, true) - 1))
      if till and till <= now then
        gone = counts[before + i]
      elseif dated[number] or is_part then
        gone = redis.call('ZCOUNT', W .. 'ue:' .. number .. ':' .. user, '-inf', due_by)
      end
      most, least = most - gone, least + counts[before + i] - gone
    end
  end
  if wanted then return most >= wanted end
  return most, at
end
