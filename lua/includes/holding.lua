-- What a user holds: coupons assigned and not used up, counted by book in the user's hash (`h<book>`); those with an end
-- of their own also by code (`x<code>`), so that a count can leave out what is past its window.

local function hold(c, book)
  local key = W .. 'u:' .. c.user
  redis.call('HINCRBY', key, 'h' .. book.number, 1)
  if c.expires_at then redis.call('HSET', key, 'x' .. c.code, c.expires_at .. ' ' .. book.number) end
end

local function let_go(c, book)
  local key = W .. 'u:' .. c.user
  redis.call('HINCRBY', key, 'h' .. book.number, -1)
  if c.expires_at then redis.call('HDEL', key, 'x' .. c.code) end
end

-- How many coupons the user holds now, over all books; and its cap, where it has one of its own.
local function holdings(user, now)
  local fields = redis.call('HGETALL', W .. 'u:' .. user)
  local n, cap, ended = 0, nil, {}
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if name == 'cap' then cap = tonumber(string.match(value, '%S+$'))
    elseif string.byte(name) == 104 then -- h
      local number = string.sub(name, 2)
      local till = read_book(number).till
      ended[number] = till and till <= now
      if not ended[number] then n = n + tonumber(value) end
    end
  end
  for i = 1, #fields, 2 do
    if string.byte(fields[i]) == 120 then -- x
      local expires_at, number = string.match(fields[i + 1], '^(%S+) (%S+)$')
      if tonumber(expires_at) <= now and not ended[number] then n = n - 1 end
    end
  end
  return n, cap
end
