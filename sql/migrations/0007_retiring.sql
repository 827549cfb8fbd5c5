-- Books that ended long ago leave Redis (docs/decisions/0048).

-- `leaving`: the worker removes the book's codes from Redis; `retired`: Redis has none of them, and `retired_counts` are the
-- book's counters; `returning`: the worker puts the codes back.
ALTER TABLE books
  ADD COLUMN retirement text CHECK (retirement IN ('leaving', 'retired', 'returning')),
  ADD COLUMN retired_counts jsonb CHECK (jsonb_typeof(retired_counts) = 'object'),
  ADD COLUMN returned_at timestamptz,
  ADD CHECK (retirement IS DISTINCT FROM 'retired' OR retired_counts IS NOT NULL);
CREATE INDEX books_ended ON books (valid_until) WHERE valid_until IS NOT NULL AND retirement IS NULL;
CREATE INDEX books_moving ON books (workspace, book) WHERE retirement IN ('leaving', 'returning');
CREATE INDEX books_retired ON books (workspace, book) WHERE retirement = 'retired';

-- The number of the last step of a retirement or return; Redis has the same (`{pN}:retired`).
ALTER TABLE partitions ADD COLUMN retirements bigint NOT NULL DEFAULT 0;
