-- steps/watch_stock.lua as a function. Needs gate, book.
local function watch_stock(outbox, book, now, took, uses)
  local low = low_of(book)
  -- @step watch_stock
end
