-- name: delete_session
-- Delete a session; return whether there was one.
-- $1 session_hash bytea
DELETE FROM sessions WHERE session_hash = $1 RETURNING true;

-- name: delete_sessions_of
-- Delete the sessions of a person.
-- $1 workspace int  $2 person text
DELETE FROM sessions WHERE workspace = $1 AND coalesce(key_id::text, person) = $2 AND person = $2 RETURNING expires_at;

-- name: insert_session
-- Insert a session, of a key or a person.
-- $1 session_hash bytea  $2 workspace int  $3 key_id uuid  $4 person text  $5 scopes text[]  $6 expires_at timestamptz
INSERT INTO sessions (session_hash, workspace, key_id, person, scopes, expires_at) VALUES ($1, $2, $3, $4, $5, $6);

-- name: prune_sessions
-- Delete expired sessions, and all but the newest of a key or a person, and of a workspace.
-- $1 workspace int  $2 owner text  $3 keep int  $4 keep_of_workspace int
DELETE FROM sessions WHERE expires_at <= now() OR session_hash IN (
    SELECT session_hash FROM sessions WHERE workspace = $1 AND coalesce(key_id::text, person) = $2
    ORDER BY created_at DESC, session_hash OFFSET $3
) OR session_hash IN (
    SELECT session_hash FROM sessions WHERE workspace = $1 ORDER BY created_at DESC, session_hash OFFSET $4
);

-- name: read_sessions
-- Every live session of a key, of all workspaces or of these.
-- $1 workspaces int[]
SELECT session_hash, key_id, expires_at FROM sessions
WHERE key_id IS NOT NULL AND expires_at > now() AND ($1::int[] IS NULL OR workspace = ANY ($1));
