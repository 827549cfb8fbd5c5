-- name: archivable_months
-- The months before one of which each table of facts has a partition, in order.
-- $1 before date
SELECT month FROM (
  SELECT to_date(right(relname, 7), 'YYYY_MM') AS month FROM pg_class
  WHERE relispartition AND relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname ~ '_\d{4}_\d{2}$'
) AS partitions
WHERE month < $1 GROUP BY month HAVING count(*) = (SELECT count(*) FROM fact_tables()) ORDER BY month;

-- name: archived_books
-- The books of a month's facts, for readers of its files.
-- $1 month date
SELECT workspace, workspace_id, w.name AS workspace_name, book, book_id, b.name AS book_name, facts
FROM books_of_month($1) JOIN books b USING (workspace, book) JOIN workspaces w USING (workspace) ORDER BY workspace, book;

-- name: archived_months_of_book
-- The months of a book's facts that are in files; null for none.
-- $1 workspace int  $2 book int
SELECT archived_months FROM books WHERE workspace = $1 AND book = $2;

-- name: archived_months_of_code
-- As archived_months_of_book, for the book of a code.
-- $1 workspace int  $2 code text
SELECT archived_months FROM codes JOIN books USING (workspace, book) WHERE workspace = $1 AND code = $2;

-- name: archived_months_of_open_book
-- As archived_months_of_book, for a book that has not ended.
-- $1 workspace int  $2 book int
SELECT archived_months FROM books
WHERE workspace = $1 AND book = $2 AND archived_months IS NOT NULL AND (valid_until IS NULL OR valid_until > now());

-- name: archived_redemption
-- The last standing redemption of an archived book's code. Returns no row if none stands, or the book is not archived.
-- $1 workspace int  $2 code text
SELECT epoch, seq, book, user_id, order_id, ms_of(redeemed_at), archived_codes.max_redemptions
FROM archived_codes JOIN codes USING (workspace, code) WHERE workspace = $1 AND codes.code = $2 AND epoch IS NOT NULL;

-- name: archived_to
-- The newest month of which facts of a workspace are in files; null for none.
-- $1 workspace int
SELECT max(month) FROM books, unnest(archived_months) AS month WHERE workspace = $1 AND archived_months IS NOT NULL;

-- name: attach_month
-- Attach a restored month's tables.
-- $1 month date
SELECT attach_month($1);

-- name: begin_archiving
-- Whether this is the only transaction that moves a month, until it ends.
SELECT pg_try_advisory_xact_lock(hashtext('archive'));

-- name: begin_read_back
-- Make the temporary table `read_back` for facts of one kind.
-- $1 fact text
SELECT begin_read_back($1);

-- name: books_in_month
-- The books of a month's facts, and what keeps the month in Postgres: `unknown`: the book does not exist; `used`: it is
-- not retired, or codes are being generated; `young`: a fact is younger than so many days, or than a kept answer may be;
-- `gift`: an order still has its gift.
-- $1 month date  $2 days int
SELECT workspace, book, w.name AS workspace_name, b.name AS book_name, facts, CASE
    WHEN b.book IS NULL THEN 'unknown'
    WHEN retirement IS DISTINCT FROM 'retired' OR EXISTS (
      SELECT FROM jobs WHERE jobs.workspace = m.workspace AND jobs.book = m.book AND status = 'running' AND kind = 'generate'
    ) THEN 'used'
    WHEN newest > now() - greatest($2 * interval '1 day', idempotency_hours * interval '1 hour' + interval '1 day') THEN 'young'
    WHEN newest_gift >= coalesce(orders_since, '-infinity') THEN 'gift'
  END AS keeps
FROM books_of_month($1) m LEFT JOIN books b USING (workspace, book) LEFT JOIN workspaces w USING (workspace)
ORDER BY workspace, book;

-- name: create_month
-- Create a month's tables, not attached yet.
-- $1 month date
SELECT create_month($1);

-- name: drop_month
-- Detach and drop a month's partitions.
-- $1 month date
SELECT drop_month($1);

-- name: erase_in_month
-- Replace the users of a month's restored facts who were deleted meanwhile.
-- $1 fact text  $2 month date
SELECT erase_in_month($1, $2);

-- name: fact_columns
-- The columns of a fact that are written.
-- $1 fact text
SELECT fact_columns($1);

-- name: fact_tables
-- The tables of facts, each with the name of a month's partition.
-- $1 month date
SELECT name, fact_partition(name, $1) AS partition FROM fact_tables();

-- name: has_archived_month
-- Whether facts of a workspace of this month are in files.
-- $1 workspace int  $2 month date
SELECT EXISTS (SELECT FROM books WHERE workspace = $1 AND archived_months @> ARRAY[$2::date] AND archived_months IS NOT NULL);

-- name: is_any_moving
-- Whether workspaces are being moved to other partitions.
SELECT EXISTS (SELECT FROM moves WHERE state IN ('ordered', 'running'));

-- name: is_erasing
-- Whether users are being deleted.
SELECT EXISTS (SELECT FROM erasures WHERE user_id IS NOT NULL);

-- name: keep_months
-- Let no month of facts leave until the transaction ends: leaving locks the tables in the order of fact_tables().
LOCK TABLE assignments IN ACCESS SHARE MODE;

-- name: lock_deletions_and_moves
-- Let no user be deleted until the transaction ends, and no workspace be moved.
LOCK TABLE erasures, moves IN SHARE MODE;

-- name: lock_month
-- Let nobody change a month's facts or books, or delete a user, until the transaction ends.
-- $1 month date
SELECT lock_month($1);

-- name: place_in_partition
-- Let a month's restored facts be of the partition in which their workspace is now.
-- $1 fact text  $2 month date
SELECT place_in_partition($1, $2);

-- name: read_archived_months
-- The months whose facts are in files, each with its manifest's digest, in order.
SELECT month, manifest FROM archived_months ORDER BY month;

-- name: settle_month
-- Keep of a month whose files are written what requests need, and remove the rest but its partitions.
-- $1 month date  $2 manifest bytea
SELECT settle_month($1, $2);

-- name: sum_of_table
-- The number of a table's rows, and a sum over their contents.
-- $1 table text
SELECT rows, contents FROM sum_of_table($1::text::regclass);

-- name: unsettle_month
-- Undo settle_month for a month that is attached again.
-- $1 month date
SELECT unsettle_month($1);
