-- name: bump_keys_version
-- Make all processes read a workspace's keys again. Until the transaction ends, no other changes keys: so what is
-- committed has all lower versions.
-- $1 workspace int
WITH next AS (UPDATE keys_version SET version = version + 1 RETURNING version)
INSERT INTO key_changes (workspace, version) SELECT $1, version FROM next
ON CONFLICT (workspace) DO UPDATE SET version = excluded.version;

-- name: count_keys
-- How many keys of a workspace are valid.
-- $1 workspace int
SELECT count(*) FROM keys
WHERE workspace = $1 AND revoked_at IS NULL AND coalesce(expires_at, 'infinity') > now();

-- name: end_key
-- Let a key expire after some seconds, unless it expires earlier.
-- $1 key_id uuid  $2 seconds int
UPDATE keys SET expires_at = least(expires_at, now() + $2 * interval '1 second') WHERE key_id = $1;

-- name: insert_key
-- Insert a key.
-- $1 key_id uuid  $2 workspace int  $3 name text  $4 prefix text  $5 secret_hash bytea  $6 scopes text[]
-- $7 expires_at timestamptz  $8 replaces uuid  $9 limits jsonb
INSERT INTO keys (key_id, workspace, name, prefix, secret_hash, scopes, expires_at, replaces, limits)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
RETURNING key_id, name, prefix, scopes, created_at, expires_at, last_used_at, limits, position;

-- name: is_any_book_limiting_misses
-- Whether a book of the workspace limits misses.
-- $1 workspace int
SELECT EXISTS (SELECT FROM books WHERE workspace = $1 AND limits ->> 'missesPerMinute' IS NOT NULL);

-- name: is_any_known
-- Whether any of these keys is valid.
-- $1 secret_hashes bytea[]
SELECT EXISTS (
    SELECT FROM keys
    WHERE secret_hash = ANY ($1) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
);

-- name: page_keys
-- A workspace's keys that are not revoked, newest first.
-- $1 workspace int  $2 before bigint  $3 limit int
SELECT key_id, name, prefix, scopes, created_at, expires_at, last_used_at, limits, position FROM keys
WHERE workspace = $1 AND revoked_at IS NULL AND ($2::bigint IS NULL OR position < $2)
ORDER BY position DESC LIMIT $3;

-- name: read_callers
-- Every valid key and every live session of a person, of all workspaces or of these, with the workspace, the limits,
-- and whether a book limits misses.
-- $1 workspaces int[]
WITH credentials AS (
    SELECT secret_hash, key_id, NULL AS person, workspace, scopes, expires_at, limits FROM keys WHERE revoked_at IS NULL
    UNION ALL
    SELECT session_hash, NULL, person, workspace, scopes, expires_at, NULL FROM sessions WHERE person IS NOT NULL
)
SELECT
    secret_hash, key_id, person, workspace, workspace_id, partition, mode, scopes, expires_at, credentials.limits,
    workspaces.limits AS workspace_limits, operator_limits, suspended_at IS NOT NULL AS is_suspended, EXISTS (
        SELECT FROM books
        WHERE books.workspace = workspaces.workspace AND books.limits ->> 'missesPerMinute' IS NOT NULL
    ) AS of_books
FROM credentials JOIN workspaces USING (workspace)
WHERE coalesce(expires_at, 'infinity') > now() AND ($1::int[] IS NULL OR workspace = ANY ($1));

-- name: read_key
-- A valid key, and whether another replaces it.
-- $1 workspace int  $2 key_id uuid
SELECT
  name, scopes, expires_at, replaces, limits, EXISTS (SELECT FROM keys AS next WHERE next.replaces = $2) AS replaced
FROM keys
WHERE workspace = $1 AND key_id = $2 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now());

-- name: read_key_changes
-- The version of the keys, and the workspaces whose keys have changed after a version.
-- $1 known bigint
SELECT version, array(SELECT workspace FROM key_changes WHERE key_changes.version > $1) FROM keys_version;

-- name: read_keys_version
-- The version of the keys.
SELECT version FROM keys_version;

-- name: revoke_key
-- Revoke a key. Returns no row if there is none.
-- $1 workspace int  $2 key_id uuid
UPDATE keys SET revoked_at = now() WHERE workspace = $1 AND key_id = $2 AND revoked_at IS NULL RETURNING key_id;

-- name: touch_keys
-- Store when keys were used last.
-- $1 key_ids uuid[]  $2 times timestamptz[]
UPDATE keys SET last_used_at = used.at FROM unnest($1::uuid[], $2::timestamptz[]) AS used (key_id, at)
WHERE keys.key_id = used.key_id AND (last_used_at IS NULL OR last_used_at < used.at);

-- name: update_key_limits
-- Set a key's limits. Returns no row if there is none.
-- $1 workspace int  $2 key_id uuid  $3 limits jsonb
UPDATE keys SET limits = $3
WHERE workspace = $1 AND key_id = $2 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
RETURNING key_id, name, prefix, scopes, created_at, expires_at, last_used_at, limits, position;
