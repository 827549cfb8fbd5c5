-- name: add_book_codes
-- Add to a book's count of codes. Returns no row if there is no such book, or Redis may lack its codes.
-- $1 workspace int  $2 book int  $3 added int
UPDATE books SET code_count = code_count + $3 WHERE workspace = $1 AND book = $2 AND archived_at IS NULL
RETURNING book;

-- name: books_that_ran_low
-- A partition's active books with a threshold of which one of the workspace's last notices said that free codes were
-- few, without those that are set aside: the last noticed one of each workspace, then the next one of each.
-- $1 partition int  $2 limit int  $3 notices_of_workspace int
WITH noticed AS (
  SELECT DISTINCT ON (workspace, book) workspace, name, book, epoch, seq FROM workspaces CROSS JOIN LATERAL (
    SELECT book, epoch, seq FROM stock_notices
    WHERE stock_notices.workspace = workspaces.workspace AND what = 'codes' ORDER BY epoch DESC, seq DESC LIMIT $3
  ) AS newest
  WHERE partition = $1 ORDER BY workspace, book, epoch DESC, seq DESC
)
SELECT workspace, noticed.name, book_id, low_stock_threshold FROM noticed JOIN books USING (workspace, book)
WHERE status = 'active' AND low_stock_threshold IS NOT NULL AND archived_at IS NULL
  AND NOT is_set_aside($1, 'watching_stock', 'book ' || book_id)
ORDER BY row_number() OVER (PARTITION BY workspace ORDER BY epoch DESC, seq DESC), epoch DESC, seq DESC LIMIT $2;

-- name: budgeted_books
-- A partition's books with budgets or limits of uses, or one workspace's, with the offset of their clock. Without
-- archived ones.
-- $1 partition int  $2 workspace int
SELECT {book}, clock_offset_ms FROM books JOIN workspaces USING (workspace)
WHERE partition = $1 AND ($2::int IS NULL OR workspace = $2) AND counted_from > 0 AND archived_at IS NULL
ORDER BY workspace, book;

-- name: count_anew
-- Give a workspace's book with budgets a new generation.
-- $1 workspace int  $2 book int  $3 version bigint
UPDATE books SET version = $3, counted_from = $3 WHERE workspace = $1 AND book = $2;

-- name: is_counted
-- Whether Redis has counted what was redeemed of a book under this generation.
-- $1 workspace int  $2 book int  $3 counted_from bigint
SELECT is_counted FROM books WHERE workspace = $1 AND book = $2 AND counted_from = $3;

-- name: lock_book_count
-- A book's count of codes, and its discount, locked until the transaction ends.
-- $1 workspace int  $2 book int
SELECT code_count, discount FROM books WHERE workspace = $1 AND book = $2 FOR UPDATE;

-- name: lock_stocked_book
-- Lock a book with `keepFree`. Until the transaction ends, no other adds or orders codes of it.
-- $1 workspace int  $2 book int
SELECT {book}, code_count FROM books JOIN workspaces USING (workspace)
WHERE workspace = $1 AND book = $2 AND keep_free IS NOT NULL AND status <> 'archived' AND archived_at IS NULL
FOR UPDATE OF books;

-- name: next_book
-- The number of a workspace's next book, under the lock of its partition's configuration.
-- $1 workspace int
SELECT coalesce(max(book), 0) + 1 FROM books WHERE workspace = $1;

-- name: note_counted
-- Store that Redis has counted all under a book's generation. Returns no row for another generation.
-- $1 workspace int  $2 book int  $3 counted_from bigint  $4 version bigint
UPDATE books SET is_counted = true, version = $4
WHERE workspace = $1 AND book = $2 AND counted_from = $3 AND NOT is_counted
RETURNING book;

-- name: page_books
-- A workspace's books, newest first.
-- $1 workspace int  $2 before int  $3 limit int  $4 status text  $5 tag text  $6 q text
SELECT {book} FROM books JOIN workspaces USING (workspace)
WHERE workspace = $1 AND ($2::int IS NULL OR book < $2) AND ($4::text IS NULL OR status = $4)
    AND ($5::text IS NULL OR $5 = ANY (tags))
    AND ($6::text IS NULL OR strpos(lower(books.name), lower($6)) > 0 OR strpos(lower(description), lower($6)) > 0)
ORDER BY book DESC LIMIT $3;

-- name: page_stocked_books
-- A partition's next books with `keepFree`, and whether each is set aside: of each workspace those after its last book,
-- and its first ones after its last; one of each workspace, then the next one of each, beginning after the last
-- workspace.
-- $1 partition int  $2 limit int  $3 last_workspace int  $4 workspaces int[]  $5 last_books int[]
SELECT workspace, book, book_id, version, keep_free, is_set_aside($1, 'restocking', 'book ' || book_id) AS is_set_aside
FROM (
  SELECT
    workspace, book, book_id, books.version, keep_free,
    row_number() OVER (PARTITION BY workspace ORDER BY book <= coalesce(last_book, 0), book) AS turn
  FROM books JOIN workspaces USING (workspace)
  LEFT JOIN unnest($4::int[], $5::int[]) AS served (workspace, last_book) USING (workspace)
  WHERE partition = $1 AND keep_free IS NOT NULL AND status <> 'archived' AND archived_at IS NULL
) AS stocked
ORDER BY turn, workspace <= $3, workspace LIMIT $2;

-- name: read_book
-- A book of a workspace by its id.
-- $1 workspace int  $2 book_id uuid
SELECT {book} FROM books JOIN workspaces USING (workspace)
WHERE workspace = $1 AND book_id = $2;

-- name: read_book_id
-- A book's id, and its discount, by its number.
-- $1 workspace int  $2 book int
SELECT book_id, discount FROM books WHERE workspace = $1 AND book = $2;

-- name: read_books
-- Books of a workspace by their numbers.
-- $1 workspace int  $2 books int[]
SELECT {book} FROM books JOIN workspaces USING (workspace)
WHERE workspace = $1 AND book = ANY ($2);

-- name: spent_of_book
-- What was redeemed of a book up to an event and not given back, in 10⁻⁴ units, and how often: in all, in a day, in a
-- month.
-- $1 partition int  $2 workspace int  $3 epoch bigint  $4 seq bigint  $5 book int  $6 day_begins bigint
-- $7 day_ends bigint  $8 month_begins bigint  $9 month_ends bigint
SELECT
  coalesce(sum(discount_amount), 0) * 10000 AS e4, count(*) AS uses,
  coalesce(sum(discount_amount) FILTER (WHERE counted_ms >= $6 AND counted_ms < $7), 0) * 10000 AS day_e4,
  count(*) FILTER (WHERE counted_ms >= $6 AND counted_ms < $7) AS day_uses,
  coalesce(sum(discount_amount) FILTER (WHERE counted_ms >= $8 AND counted_ms < $9), 0) * 10000 AS month_e4,
  count(*) FILTER (WHERE counted_ms >= $8 AND counted_ms < $9) AS month_uses
FROM redemptions_at($1, $2, $3, $4) WHERE book = $5 AND taken;

-- name: spent_of_users
-- The same of a book's users, of all after one or of these, in their order.
-- $1 partition int  $2 workspace int  $3 epoch bigint  $4 seq bigint  $5 book int  $6 day_begins bigint
-- $7 day_ends bigint  $8 month_begins bigint  $9 month_ends bigint  $10 after text  $11 users text[]
SELECT
  user_id, sum(discount_amount) * 10000 AS e4, count(*) AS uses,
  coalesce(sum(discount_amount) FILTER (WHERE counted_ms >= $6 AND counted_ms < $7), 0) * 10000 AS day_e4,
  count(*) FILTER (WHERE counted_ms >= $6 AND counted_ms < $7) AS day_uses,
  coalesce(sum(discount_amount) FILTER (WHERE counted_ms >= $8 AND counted_ms < $9), 0) * 10000 AS month_e4,
  count(*) FILTER (WHERE counted_ms >= $8 AND counted_ms < $9) AS month_uses
FROM redemptions_at($1, $2, $3, $4)
WHERE book = $5 AND taken AND user_id COLLATE "C" > $10 AND ($11::text[] IS NULL OR user_id COLLATE "C" = ANY ($11))
GROUP BY user_id COLLATE "C", user_id ORDER BY user_id COLLATE "C";

-- name: write_book
-- Insert a book, or update all that can change of it. Its history begins after the partition's cursor of now.
-- $1 workspace int  $2 book int  $3 book_id uuid  $4 version bigint  $5 name text  $6 description text  $7 status text
-- $8 valid_from timestamptz  $9 valid_until timestamptz  $10 discount jsonb  $11 code_pattern text  $12 charset text
-- $13 total_codes int  $14 gift_book_id uuid  $15 tags text[]  $16 metadata json  $17 created_by text  $18 limits jsonb
-- $19 created_at timestamptz  $20 updated_at timestamptz  $21 locks_ended bigint  $22 own_currency text
-- $23 budgets jsonb  $24 use_limits jsonb  $25 counted_from bigint  $26 is_counted boolean
-- {settings_parameters}
INSERT INTO books (
    workspace, book, book_id, version, name, description, status, valid_from, valid_until, discount, code_pattern,
    charset, total_codes, gift_book_id, tags, metadata, created_by, limits, created_at, updated_at, locks_ended,
    own_currency, budgets, use_limits, counted_from, is_counted, {settings}, after_version, after_epoch, after_seq
) VALUES (
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25,
    $26, {settings_values}, $4::bigint - 1,
    (SELECT cursor_epoch FROM partitions JOIN workspaces ON id = partition WHERE workspace = $1),
    (SELECT cursor_seq FROM partitions JOIN workspaces ON id = partition WHERE workspace = $1)
) ON CONFLICT (workspace, book) DO UPDATE SET
    version = $4, name = $5, description = $6, status = $7, valid_from = $8, valid_until = $9, discount = $10,
    code_pattern = $11, charset = $12, total_codes = $13, gift_book_id = $14, tags = $15, metadata = $16,
    created_by = $17, limits = $18, updated_at = $20, locks_ended = $21, own_currency = $22, budgets = $23,
    use_limits = $24, counted_from = $25, is_counted = $26
    -- , {settings_changes}
;
