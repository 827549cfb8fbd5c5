-- name: attached_months
-- The past months of facts that are attached, in order.
SELECT month FROM fact_months
WHERE month < date_trunc('month', now() AT TIME ZONE 'UTC') AND month NOT IN (SELECT month FROM detached_months) ORDER BY month;

-- name: detached_months
-- The detached months of facts, in order.
SELECT month FROM detached_months ORDER BY month;

-- name: detached_months_of_book
-- The detached months in which a book may have facts, in order; null for none.
-- $1 workspace int  $2 book int
SELECT array_agg(month ORDER BY month) FROM detached_books JOIN detached_months
  ON month >= date_trunc('month', created_at AT TIME ZONE 'UTC')
WHERE workspace = $1 AND book = $2;

-- name: detached_months_of_code
-- As detached_months_of_book, for the book of a code.
-- $1 workspace int  $2 code text
SELECT array_agg(month ORDER BY month) FROM codes JOIN detached_books USING (workspace, book) JOIN detached_months
  ON month >= date_trunc('month', detached_books.created_at AT TIME ZONE 'UTC')
WHERE workspace = $1 AND code = $2;

-- name: detached_months_of_open_book
-- As detached_months_of_book, for a book that has not ended.
-- $1 workspace int  $2 book int
SELECT array_agg(month ORDER BY month) FROM books JOIN detached_books USING (workspace, book) JOIN detached_months
  ON month >= date_trunc('month', books.created_at AT TIME ZONE 'UTC')
WHERE workspace = $1 AND book = $2 AND (valid_until IS NULL OR valid_until > now());

-- name: detached_to
-- The newest detached month; null for none, or if the workspace has no retired book that may have facts in one.
-- $1 workspace int
SELECT max(month) FROM detached_months WHERE EXISTS (SELECT FROM detached_books WHERE workspace = $1);

-- name: is_detached
-- Whether a month is detached in which a retired book of the workspace may have facts.
-- $1 workspace int  $2 month date
SELECT EXISTS (SELECT FROM detached_months WHERE month = $2) AND EXISTS (
  SELECT FROM detached_books WHERE workspace = $1 AND created_at < ($2::date + interval '1 month') AT TIME ZONE 'UTC'
);

-- name: is_retired_month
-- Whether an attached month may be detached: all of its facts are of retired books. Reads them all.
-- $1 month date
SELECT is_retired_month($1);

-- name: keep_months
-- Let no month of facts be detached until the transaction ends. The order is that of fact_tables().
LOCK TABLE ONLY assignments, ONLY unassignments, ONLY redemptions, ONLY rollbacks, ONLY stock_notices IN ACCESS SHARE MODE;
