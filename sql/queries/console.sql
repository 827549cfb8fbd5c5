-- name: find_known_codes
-- Those of these codes that the workspace has: each looked up by the primary key, without sorts, as in change_codes.
-- $1 workspace int  $2 codes text[]
SELECT code FROM unnest($2::text[]) AS named (name) CROSS JOIN LATERAL (
  SELECT code FROM codes WHERE workspace = $1 AND codes.code >= name ORDER BY codes.code LIMIT 1
) AS one
WHERE code = name;

-- name: read_postgres_figures
-- Version and size of Postgres, and its connections.
SELECT
  current_setting('server_version') AS version, pg_database_size(current_database()) AS database_bytes,
  (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) AS connections;

-- name: redemptions_of_user_between
-- A user's redemptions, newest first, before one and from one on, of one book if it is given.
-- $1 workspace int  $2 limit int  $3 before uuid  $4 since uuid  $5 book_id uuid  $6 user text
SELECT {redemption}
FROM past_redemptions
WHERE workspace = $1 AND user_id = $6 AND redemption_id < $3 AND redemption_id >= $4
    AND ($5::uuid IS NULL OR book_id = $5)
ORDER BY redemption_id DESC LIMIT $2;

-- name: redemptions_of_workspace
-- A workspace's redemptions, newest first, before one and from one on, of one book if it is given. It takes the newest
-- of each book, and of these the newest, so that it reads nothing of other workspaces.
-- $1 workspace int  $2 limit int  $3 before uuid  $4 since uuid  $5 book_id uuid
WITH newest AS (
  SELECT r.redemption_id AS id FROM books b CROSS JOIN LATERAL (
    SELECT redemption_id FROM redemptions WHERE workspace = $1 AND redemptions.book = b.book AND redemption_id < $3
        AND redemption_id >= $4
    ORDER BY redemption_id DESC LIMIT $2
  ) AS r WHERE b.workspace = $1 AND ($5::uuid IS NULL OR b.book_id = $5) ORDER BY r.redemption_id DESC LIMIT $2
)
SELECT {redemption} FROM newest CROSS JOIN LATERAL (
  SELECT {redemption} FROM past_redemptions WHERE redemption_id = newest.id
) AS one ORDER BY redemption_id DESC;
