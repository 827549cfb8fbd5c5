-- Read a book's settings into a table. Reads text (the settings: steps/book_fields.lua), number (the book's). Leaves
-- book (its fields: steps/book_table.lua).

local book
do
  -- @step book_fields
  -- @step book_table
end
