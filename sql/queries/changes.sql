-- name: changed_books
-- A partition's books that changed after one version, up to another, by version.
-- $1 partition int  $2 after bigint  $3 last bigint  $4 limit int
SELECT {book} FROM books JOIN workspaces USING (workspace)
WHERE partition = $1 AND books.version > $2 AND books.version <= $3 ORDER BY books.version LIMIT $4;

-- name: changed_codes
-- A partition's codes that changed after one version, up to another, by version; without archived books.
-- $1 partition int  $2 after bigint  $3 last bigint  $4 limit int
SELECT workspace, partition, book, version, code, owner_id, max_redemptions, expires_at, active, created_at, amount
FROM codes WHERE partition = $1 AND version > $2 AND version <= $3
  AND (workspace, book) NOT IN (
    SELECT workspace, book FROM books WHERE archived_at IS NOT NULL
  )
ORDER BY version LIMIT $4;

-- name: changed_users
-- A partition's users that changed after one version, up to another, by version.
-- $1 partition int  $2 after bigint  $3 last bigint  $4 limit int
SELECT workspace, partition, version, user_id, max_coupons, metadata, created_at FROM users
WHERE partition = $1 AND version > $2 AND version <= $3 ORDER BY version LIMIT $4;

-- name: changed_workspaces
-- A partition's workspaces that changed after one version, up to another, by version.
-- $1 partition int  $2 after bigint  $3 last bigint  $4 limit int
SELECT {workspace} FROM workspaces WHERE partition = $1 AND version > $2 AND version <= $3 ORDER BY version LIMIT $4;

-- name: read_config_version
-- A partition's newest configuration version.
-- $1 partition int
SELECT version FROM config_versions WHERE partition = $1;
