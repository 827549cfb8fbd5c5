-- name: insert_codes
-- Insert the codes that the workspace lacks. Returns their time, and the new codes unless all are new.
-- $1 workspace int  $2 book int  $3 partition int  $4 version bigint  $5 codes text[]  $6 owner_ids text[]
-- $7 expires_at timestamptz[]  $8 max_redemptions int[]
WITH added AS (
  INSERT INTO codes (workspace, book, partition, version, code, owner_id, expires_at, max_redemptions)
  SELECT $1, $2, $3, $4, * FROM unnest($5::text[], $6::text[], $7::timestamptz[], $8::int[])
  ON CONFLICT DO NOTHING
  RETURNING code
)
SELECT
  now() AS created_at, CASE WHEN count(*) < cardinality($5::text[]) THEN coalesce(array_agg(code), '{}') END AS codes
FROM added;

-- name: read_code
-- A code of a workspace.
-- $1 workspace int  $2 code text
SELECT workspace, partition, book, version, code, owner_id, max_redemptions, expires_at, active, created_at FROM codes
WHERE workspace = $1 AND code = $2;

-- name: update_code
-- Update a code's switch and expiry.
-- $1 workspace int  $2 code text  $3 version bigint  $4 active boolean  $5 expires_at timestamptz
UPDATE codes SET version = $3, active = $4, expires_at = $5 WHERE workspace = $1 AND code = $2;
