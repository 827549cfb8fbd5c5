-- Books that were made for one coupon, which is the first of their codes; null for all others.

ALTER TABLE books ADD COLUMN single text CHECK (single IN ('user-specific', 'time-specific', 'generated'));

-- The list of those that can be used now: what is over is passed by within the index.
CREATE INDEX books_time_specific ON books (workspace, book, coalesce(valid_until, 'infinity'))
WHERE single = 'time-specific' AND status = 'active';
