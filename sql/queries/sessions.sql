-- name: delete_session
-- End a session, and say whose it was; no row where there is none.
-- $1 session_hash bytea
DELETE FROM sessions WHERE session_hash = $1 RETURNING key_id;

-- name: insert_session
-- Begin a session.
-- $1 session_hash bytea  $2 key_id uuid  $3 expires_at timestamptz
INSERT INTO sessions (session_hash, key_id, expires_at) VALUES ($1, $2, $3);

-- name: prune_sessions
-- Forget what has ended, and of a key all but its newest.
-- $1 key_id uuid  $2 keep int
DELETE FROM sessions WHERE expires_at <= now() OR session_hash IN (
    SELECT session_hash FROM sessions WHERE key_id = $1 ORDER BY created_at DESC, session_hash OFFSET $2
);

-- name: read_sessions
-- Every session that has not ended, with its key.
SELECT session_hash, key_id, expires_at FROM sessions WHERE expires_at > now();
