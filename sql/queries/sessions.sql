-- name: delete_session
-- Delete a session, and return its key. Returns no row if there is none.
-- $1 session_hash bytea
DELETE FROM sessions WHERE session_hash = $1 RETURNING key_id;

-- name: insert_session
-- Insert a session.
-- $1 session_hash bytea  $2 key_id uuid  $3 expires_at timestamptz
INSERT INTO sessions (session_hash, key_id, expires_at) VALUES ($1, $2, $3);

-- name: prune_sessions
-- Delete expired sessions, and all but the newest of a key.
-- $1 key_id uuid  $2 keep int
DELETE FROM sessions WHERE expires_at <= now() OR session_hash IN (
    SELECT session_hash FROM sessions WHERE key_id = $1 ORDER BY created_at DESC, session_hash OFFSET $2
);

-- name: read_sessions
-- Every live session, with its key.
SELECT session_hash, key_id, expires_at FROM sessions WHERE expires_at > now();
