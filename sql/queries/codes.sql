-- name: change_codes
-- Set the switch or the expiry of a book's codes that have another. Returns all of these codes as they were, whether
-- they differ from that, and how many were changed. The planner often has no statistics of new codes. So each code is
-- looked up by the primary key, the only index in this order, without sorts, and changed at its place: any join may
-- compare all with all. A row that the deletion of a user changes at the same time is not at its place: then fewer are
-- changed than differ.
-- $1 workspace int  $2 book int  $3 codes text[]  $4 version bigint  $5 active boolean  $6 has_expiry boolean
-- $7 expires_at timestamptz
WITH old AS (
  SELECT
    workspace,
    partition,
    book,
    version,
    code,
    owner_id,
    max_redemptions,
    expires_at,
    active,
    created_at,
    amount,
    position,
    place,
    active <> $5 OR ($6 AND expires_at IS DISTINCT FROM $7) AS is_changed
  FROM unnest($3::text[]) AS named (name) CROSS JOIN LATERAL (
    SELECT
      workspace,
      partition,
      book,
      version,
      code,
      owner_id,
      max_redemptions,
      expires_at,
      active,
      created_at,
      amount,
      position,
      ctid AS place
    FROM codes WHERE workspace = $1 AND codes.code >= name ORDER BY codes.code LIMIT 1
  ) AS one
  WHERE book = $2 AND code = name
), changed AS (
  UPDATE codes SET
    version = $4, active = coalesce($5, active), expires_at = CASE WHEN $6 THEN $7 ELSE expires_at END
  WHERE ctid = ANY (ARRAY (SELECT place FROM old WHERE is_changed))
  RETURNING 1
)
SELECT
  workspace, partition, book, version, code, owner_id, max_redemptions, expires_at, active, created_at, amount,
  coalesce(is_changed, false) AS is_changed, (SELECT count(*) FROM changed) AS changed
FROM old ORDER BY position DESC;

-- name: extent_of_book
-- How many codes a book has, and the position after the newest.
-- $1 workspace int  $2 book int
SELECT
  code_count, (SELECT coalesce(max(position), 0) + 1 FROM codes WHERE codes.workspace = $1 AND codes.book = $2) AS after
FROM books WHERE workspace = $1 AND book = $2;

-- name: find_codes_of_book
-- Those of these codes that the book has, the newest first.
-- $1 workspace int  $2 book int  $3 codes text[]
SELECT code FROM codes WHERE workspace = $1 AND book = $2 AND code = ANY ($3) ORDER BY position DESC;

-- name: insert_codes
-- Insert the codes that the workspace lacks; a card without an amount gets its book's value. Returns their time, the
-- new codes unless all are new, and the discount of a book of cards.
-- $1 workspace int  $2 book int  $3 partition int  $4 version bigint  $5 codes text[]  $6 owner_ids text[]
-- $7 expires_at timestamptz[]  $8 max_redemptions int[]  $9 amounts_e4 bigint[]
WITH card AS (
  SELECT discount FROM books WHERE workspace = $1 AND book = $2 AND discount ->> 'type' = 'balance'
), added AS (
  INSERT INTO codes (workspace, book, partition, version, code, owner_id, expires_at, max_redemptions, amount)
  SELECT
    $1, $2, $3, $4, code, owner_id, expires_at, max_redemptions,
    coalesce(amount_e4 * 0.0001, (SELECT (discount ->> 'value')::numeric FROM card))
  FROM unnest($5::text[], $6::text[], $7::timestamptz[], $8::int[], $9::bigint[])
    AS line (code, owner_id, expires_at, max_redemptions, amount_e4)
  ON CONFLICT DO NOTHING
  RETURNING code
)
SELECT
  now() AS created_at, CASE WHEN count(*) < cardinality($5::text[]) THEN coalesce(array_agg(code), '{}') END AS codes,
  (SELECT discount FROM card) AS card
FROM added;

-- name: page_codes_to_change
-- Of a book's newest codes below a position: how many, the lowest position, and those that match.
-- $1 workspace int  $2 book int  $3 before bigint  $4 limit int  $5 prefix text  $6 created_from timestamptz
-- $7 created_until timestamptz
WITH page AS (
  SELECT position, code, created_at FROM codes
  WHERE workspace = $1 AND book = $2 AND position < $3 ORDER BY position DESC LIMIT $4
)
SELECT
  count(*)::int AS examined, min(position) AS last, coalesce(array_agg(code ORDER BY position DESC) FILTER (
    WHERE ($5::text IS NULL OR starts_with(code, $5)) AND ($6::timestamptz IS NULL OR created_at >= $6)
      AND ($7::timestamptz IS NULL OR created_at < $7)
  ), '{}') AS codes
FROM page;

-- name: read_code
-- A code of a workspace.
-- $1 workspace int  $2 code text
SELECT workspace, partition, book, version, code, owner_id, max_redemptions, expires_at, active, created_at, amount
FROM codes WHERE workspace = $1 AND code = $2;

-- name: update_code
-- Update a code's switch and expiry.
-- $1 workspace int  $2 code text  $3 version bigint  $4 active boolean  $5 expires_at timestamptz
UPDATE codes SET version = $3, active = $4, expires_at = $5 WHERE workspace = $1 AND code = $2;
