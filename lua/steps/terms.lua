-- Read the discount of a book into variables. service/engine/formats/stored_settings.py writes the text; includes/book.lua
-- reads two by position, too. Reads terms (steps/book_fields.lua). Leaves low (below how many free codes the book
-- runs low), discount_type, discount_terms, cap, least (amounts, e4), book_currency, book_digits. All but
-- discount_terms and book_digits are nil for none.
-- For lua/book_stats.lua, lua/redeem.lua, lua/validate.lua, includes/redeeming.lua and includes/usual.lua.

local low, discount_type, discount_terms, cap, least, book_currency, book_digits =
  string.match(terms, '^%S+ (%S+) %S+ (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
low, cap, least = tonumber(low), tonumber(cap), tonumber(least)
if discount_type == '-' then discount_type = nil end
if book_currency == '-' then book_currency = nil end
