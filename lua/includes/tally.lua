-- In place of `book` and `counts`, for a run of many events: a book is read once, and its counters are written once, at the
-- end. Measured over 200,000 redemptions: half of Redis's time.

local tallies, books, read_book_once = {}, {}, read_book

local function count(number, name, by)
  local key = W .. 'n:' .. number
  local mine = tallies[key] or {}
  tallies[key], mine[name] = mine, (mine[name] or 0) + by
end

read_book = function(number)
  local key = W .. number
  books[key] = books[key] or read_book_once(number)
  return books[key]
end

local function write_counts()
  for key, mine in pairs(tallies) do
    for name, by in pairs(mine) do
      if by ~= 0 then redis.call('HINCRBY', key, name, whole(by)) end
    end
  end
end
