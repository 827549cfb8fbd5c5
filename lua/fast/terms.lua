-- Read the discount of a book into variables (read_book of includes/book.lua), which its users declare. Reads terms.
-- Leaves discount_type, discount_terms, cap, least (amounts, e4), book_currency, book_digits. All but discount_terms
-- and book_digits are nil for none. For fast/lock.lua and fast/usual.lua.

discount_type, discount_terms, cap, least, book_currency, book_digits =
  string.match(terms, '{book from discount: discount discount_terms cap least currency digits}')
cap, least = tonumber(cap), tonumber(least)
if discount_type == '-' then discount_type = nil end
if book_currency == '-' then book_currency = nil end
