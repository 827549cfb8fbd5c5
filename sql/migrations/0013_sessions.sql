-- Operators who signed in to the console with a key; only a digest of what their browser holds is kept. A session is worth
-- what its key is, and ends with it. Without a foreign key: a key is revoked, never deleted.
CREATE TABLE sessions (
    session_hash bytea PRIMARY KEY CHECK (octet_length(session_hash) = 32),
    key_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX sessions_of_key ON sessions (key_id, created_at);
-- The orders of rolled-back redemptions, which have no place in the order any more.
CREATE INDEX rollbacks_order ON rollbacks (workspace, order_id) WHERE order_id IS NOT NULL;
