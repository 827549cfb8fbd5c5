-- name: check_time_zone
-- An error if Postgres has no time zone of this name; pg_timezone_names would read the files of all.
-- $1 name text
SELECT date_trunc('hour', now(), $1);

-- name: insert_workspace
-- Insert a workspace with default settings.
-- $1 workspace_id uuid  $2 name text  $3 mode text  $4 partition int  $5 version bigint
INSERT INTO workspaces (workspace_id, name, mode, partition, version) VALUES ($1, $2, $3, $4, $5)
RETURNING workspace;

-- name: note_storage_use
-- Store what a workspace uses of its bound of storage.
-- $1 workspace int  $2 used_mib int
UPDATE workspaces SET storage_used_mib = $2 WHERE workspace = $1;

-- name: read_all_workspaces
-- Every workspace, by name.
SELECT {workspace} FROM workspaces ORDER BY name;

-- name: read_storage
-- What a workspace uses of its bound of storage, and the bound.
-- $1 workspace int
SELECT storage_used_mib, storage_mib FROM workspaces WHERE workspace = $1;

-- name: read_storage_bounds
-- The bounds of storage of a partition's workspaces, by number, and what they use.
-- $1 partition int
SELECT workspace, name, storage_mib, storage_used_mib FROM workspaces WHERE partition = $1 ORDER BY workspace;

-- name: read_workspace
-- A workspace by its inner number.
-- $1 workspace int
SELECT {workspace} FROM workspaces WHERE workspace = $1;

-- name: read_workspace_names
-- Names and ids of the workspaces after this one.
-- $1 after_workspace int
SELECT workspace, name, workspace_id FROM workspaces WHERE workspace > $1;

-- name: read_workspace_number
-- A workspace's inner number, by its name.
-- $1 name text
SELECT workspace FROM workspaces WHERE name = $1;

-- name: suspend_workspace
-- Suspend a workspace, or end that.
-- $1 workspace int  $2 version bigint  $3 is_suspended boolean
UPDATE workspaces SET version = $2, suspended_at = CASE WHEN $3 THEN coalesce(suspended_at, now()) END
WHERE workspace = $1;

-- name: update_operator_limits
-- Set the most that limits of a workspace's keys may be.
-- $1 workspace int  $2 version bigint  $3 operator_limits jsonb
UPDATE workspaces SET version = $2, operator_limits = $3 WHERE workspace = $1;

-- name: update_storage_bound
-- Change a workspace's bound of storage.
-- $1 workspace int  $2 version bigint  $3 storage_mib int
UPDATE workspaces SET version = $2, storage_mib = $3 WHERE workspace = $1;

-- name: update_workspace
-- Update a workspace's settings.
-- $1 workspace int  $2 version bigint  $3 currency text  $4 coupons_per_order int  $5 max_coupons int
-- $6 gift_book_id uuid  $7 idempotency_hours int  $8 clock_offset_ms bigint  $9 limits jsonb
-- $10 time_zone text
UPDATE workspaces SET
    version = $2, currency = $3, coupons_per_order = $4, max_coupons = $5, gift_book_id = $6, idempotency_hours = $7,
    clock_offset_ms = $8, limits = $9, time_zone = $10
WHERE workspace = $1;
