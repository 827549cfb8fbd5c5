-- Read the discount of the book's terms into variables; `low`: below how many free codes the book runs low, nil where it doesn't
-- say.

local low, discount_type, discount_terms, cap, least, book_currency, book_digits =
  string.match(book.terms, '^%S+ (%S+) %S+ (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
low, cap, least = tonumber(low), tonumber(cap), tonumber(least)
if discount_type == '-' then discount_type = nil end
if book_currency == '-' then book_currency = nil end
