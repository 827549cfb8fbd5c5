-- Read a book's settings, `text`, into `book`. Reads `number`, too. lock_ms and max_lock_ms stay text:
-- they are only added to numbers.

local book
do
  -- @step book_fields
  -- @step book_table
end
