-- name: page_users
-- A workspace's created users, newest first, with their positions.
-- $1 workspace int  $2 before bigint  $3 limit int
SELECT workspace, partition, version, user_id, max_coupons, metadata, created_at, position FROM users
WHERE workspace = $1 AND ($2::bigint IS NULL OR position < $2)
ORDER BY position DESC LIMIT $3;

-- name: read_user
-- A created user.
-- $1 workspace int  $2 user_id text
SELECT workspace, partition, version, user_id, max_coupons, metadata, created_at FROM users
WHERE workspace = $1 AND user_id = $2;

-- name: write_user
-- Insert a user, or update what can change.
-- $1 workspace int  $2 partition int  $3 user_id text  $4 version bigint  $5 max_coupons int  $6 metadata json
INSERT INTO users (workspace, partition, user_id, version, max_coupons, metadata) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (workspace, user_id) DO UPDATE SET version = $4, max_coupons = $5, metadata = $6
RETURNING workspace, partition, version, user_id, max_coupons, metadata, created_at;
