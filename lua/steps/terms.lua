-- Read the discount of `terms` (steps/book_fields.lua) into variables; `low`: below how many free codes the book runs
-- low, nil where it doesn't say. service/formats/stored_settings.py writes them; includes/book.lua reads two by
-- position, too.

local low, discount_type, discount_terms, cap, least, book_currency, book_digits =
  string.match(terms, '^%S+ (%S+) %S+ (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
low, cap, least = tonumber(low), tonumber(cap), tonumber(least)
if discount_type == '-' then discount_type = nil end
if book_currency == '-' then book_currency = nil end
