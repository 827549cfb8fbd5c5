-- Read a book's settings, `text`, into `book`. Reads its number, too. Numbers that are only added to others stay text.

local book
do
  -- @step book_fields
  -- @step book_table
end
