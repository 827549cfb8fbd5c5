-- name: advance_change
-- Add to the progress of a change, renew its lease, and return its status. Returns no row if another worker has it.
-- $1 job_id uuid  $2 lease_token uuid  $3 lease_seconds int  $4 done bigint  $5 changed bigint  $6 unchanged bigint
-- $7 refused bigint  $8 before bigint
UPDATE code_changes SET
  done = done + $4, requested = greatest(requested, done + $4), changed = changed + $5, unchanged = unchanged + $6,
  refused = refused + $7, before = $8, pending = NULL, lease_until = now() + $3 * interval '1 second'
WHERE job_id = $1 AND lease_token = $2
RETURNING status;

-- name: assigned_users
-- What became of the users of a job so far: code, result, status before and after, reason, user.
-- $1 job_id uuid
SELECT
  coalesce(code, ''), result, CASE result WHEN 'changed' THEN 'available' WHEN 'unchanged' THEN 'assigned' ELSE '' END,
  CASE result WHEN 'refused' THEN '' ELSE 'assigned' END, coalesce(reason, ''), user_id
FROM code_change_users WHERE job_id = $1 AND result IS NOT NULL ORDER BY number;

-- name: change_codes
-- Set the switch or the expiry of a book's codes that have another. Returns all of these codes as they were, whether they
-- differ from that, and how many were changed. The planner often has no statistics of new codes. So each code is looked
-- up by the primary key, the only index in this order, without sorts, and changed at its place: any join may compare all
-- with all. A row that the deletion of a user changes at the same time is not at its place: then fewer are changed than
-- differ.
-- $1 workspace int  $2 book int  $3 codes text[]  $4 version bigint  $5 active boolean  $6 has_expiry boolean
-- $7 expires_at timestamptz
WITH old AS (
  SELECT one.*, active <> $5 OR ($6 AND expires_at IS DISTINCT FROM $7) AS is_changed
  FROM unnest($3::text[]) AS named (name) CROSS JOIN LATERAL (
    SELECT *, ctid AS place FROM codes WHERE workspace = $1 AND codes.code >= name ORDER BY codes.code LIMIT 1
  ) AS one
  WHERE book = $2 AND code = name
), changed AS (
  UPDATE codes SET
    version = $4, active = coalesce($5, active), expires_at = CASE WHEN $6 THEN $7 ELSE expires_at END
  WHERE ctid = ANY (ARRAY (SELECT place FROM old WHERE is_changed))
  RETURNING 1
)
SELECT
  workspace, partition, book, version, code, owner_id, max_redemptions, expires_at, active, created_at,
  coalesce(is_changed, false) AS is_changed, (SELECT count(*) FROM changed) AS changed
FROM old ORDER BY position DESC;

-- name: count_unfinished_changes
-- How many changes of a workspace have not ended, up to a bound.
-- $1 workspace int  $2 limit int
SELECT count(*) FROM (
  SELECT FROM code_changes WHERE workspace = $1 AND status IN ('running', 'paused') LIMIT $2
) AS unfinished;

-- name: decide_users
-- Store what became of some users of a job.
-- $1 job_id uuid  $2 numbers int[]  $3 results text[]  $4 codes text[]  $5 reasons text[]
UPDATE code_change_users AS users SET
  result = decided.result, code = nullif(decided.code, ''), reason = nullif(decided.reason, '')
FROM unnest($2::int[], $3::text[], $4::text[], $5::text[]) AS decided (number, result, code, reason)
WHERE users.job_id = $1 AND users.number = decided.number;

-- name: end_change
-- Store the end of a change, and notify the webhooks. Returns its counts, or no row as keep_pending.
-- $1 job_id uuid  $2 lease_token uuid  $3 status text  $4 errors jsonb
WITH ended AS (
  UPDATE code_changes SET
    status = $3, errors = $4, finished_at = now(), requested = CASE $3 WHEN 'done' THEN done ELSE requested END,
    lease_token = NULL, lease_until = NULL, pending = NULL
  WHERE job_id = $1 AND lease_token = $2 AND status = 'running'
  RETURNING job_id, workspace, book, changed, unchanged, refused
)
SELECT
  workspace, (SELECT book_id FROM books WHERE books.workspace = ended.workspace AND books.book = ended.book) AS book_id,
  changed, unchanged, refused, tell_webhooks(workspace, 'job.finished', job_id, NULL)
FROM ended;

-- name: find_codes_of_book
-- Those of these codes that the book has, the newest first.
-- $1 workspace int  $2 book int  $3 codes text[]
SELECT code FROM codes WHERE workspace = $1 AND book = $2 AND code = ANY ($3) ORDER BY position DESC;

-- name: insert_change
-- Insert a change of the book's codes that exist now, for any worker. Returns its job's id, and how many codes it
-- examines.
-- $1 job_id uuid  $2 workspace int  $3 book int  $4 parameters jsonb  $5 named bigint
INSERT INTO code_changes (job_id, workspace, book, parameters, requested, before)
SELECT
  $1, $2, $3, $4, coalesce($5, code_count),
  (SELECT coalesce(max(position), 0) + 1 FROM codes WHERE codes.workspace = $2 AND codes.book = $3)
FROM books WHERE workspace = $2 AND book = $3
RETURNING job_id, requested;

-- name: insert_change_results
-- Store what became of some codes.
-- $1 job_id uuid  $2 position bigint  $3 lines bytea
INSERT INTO code_change_results (job_id, position, lines) VALUES ($1, $2, $3);

-- name: insert_change_users
-- Insert the users to whom a job assigns codes, in the request's order.
-- $1 job_id uuid  $2 workspace int  $3 users text[]
INSERT INTO code_change_users (job_id, workspace, number, user_id)
SELECT $1, $2, number - 1, user_id FROM unnest($3::text[]) WITH ORDINALITY AS users (user_id, number);

-- name: keep_pending
-- Store the codes that scripts will decide next, and renew the lease. Returns no row if another worker has the change, or
-- it was paused or cancelled.
-- $1 job_id uuid  $2 lease_token uuid  $3 lease_seconds int  $4 pending bytea
UPDATE code_changes SET pending = $4, lease_until = now() + $3 * interval '1 second'
WHERE job_id = $1 AND lease_token = $2 AND status = 'running'
RETURNING job_id;

-- name: page_change_results
-- The next results of a change, the newest codes first, below a position.
-- $1 job_id uuid  $2 before bigint
SELECT position, lines FROM code_change_results WHERE job_id = $1 AND position < $2 ORDER BY position DESC LIMIT 1;

-- name: page_changes_of_book
-- A book's newest changes that have changed codes.
-- $1 workspace int  $2 book int  $3 limit int
SELECT job_id, parameters, started_at FROM code_changes
WHERE workspace = $1 AND book = $2 AND changed > 0 ORDER BY job_id DESC LIMIT $3;

-- name: page_codes_to_change
-- Of a book's newest codes below a position: how many, the lowest position, and those that match.
-- $1 workspace int  $2 book int  $3 before bigint  $4 limit int  $5 prefix text  $6 created_from timestamptz
-- $7 created_until timestamptz
WITH page AS (
  SELECT position, code, created_at FROM codes
  WHERE workspace = $1 AND book = $2 AND position < $3 ORDER BY position DESC LIMIT $4
)
SELECT
  count(*)::int AS examined, min(position) AS last, coalesce(array_agg(code ORDER BY position DESC) FILTER (
    WHERE ($5::text IS NULL OR starts_with(code, $5)) AND ($6::timestamptz IS NULL OR created_at >= $6)
      AND ($7::timestamptz IS NULL OR created_at < $7)
  ), '{}') AS codes
FROM page;

-- name: prune_changes
-- Among a bounded number of the oldest changes, delete those that ended long ago, with their results.
-- $1 days int  $2 limit int
DELETE FROM code_changes WHERE job_id IN (
  SELECT job_id FROM (SELECT job_id, finished_at FROM code_changes ORDER BY job_id LIMIT $2) AS oldest
  WHERE finished_at < now() - $1 * interval '1 day'
);

-- name: read_results_at
-- The results of a change among which those of a code at this position are, if it has any.
-- $1 job_id uuid  $2 position bigint
SELECT lines FROM code_change_results WHERE job_id = $1 AND position <= $2 ORDER BY position DESC LIMIT 1;

-- name: release_change
-- Release a change, for any worker; others of its partition come first.
-- $1 job_id uuid  $2 lease_token uuid
UPDATE code_changes SET lease_token = NULL, lease_until = now() WHERE job_id = $1 AND lease_token = $2;

-- name: set_change_status
-- Pause, resume or cancel a change that has not ended, and notify the webhooks of its end. Its worker still stores the
-- codes that it is changing. Returns no row if the change has ended, or has this status.
-- $1 workspace int  $2 job_id uuid  $3 status text
WITH changed AS (
  UPDATE code_changes SET
    status = $3, finished_at = CASE WHEN $3 = 'cancelled' THEN now() END
  WHERE workspace = $1 AND job_id = $2 AND status IN ('running', 'paused') AND status <> $3
  RETURNING job_id
)
SELECT job_id, CASE WHEN $3 = 'cancelled' THEN tell_webhooks($1, 'job.finished', job_id, NULL) END FROM changed;

-- name: take_change
-- Lease a change of the partition that has no live lease: of the workspace that was served longest ago, one that was not
-- worked on yet, else the one that was left longest ago. Of a cancelled one the codes that scripts were deciding are
-- still to be stored.
-- $1 lease_token uuid  $2 lease_seconds int  $3 partition int  $4 served int[]
UPDATE code_changes SET lease_token = $1, lease_until = now() + $2 * interval '1 second'
WHERE job_id = (
  SELECT job_id FROM code_changes JOIN workspaces USING (workspace)
  WHERE partition = $3 AND (status = 'running' OR (status = 'cancelled' AND pending IS NOT NULL))
    AND (lease_until IS NULL OR lease_until <= now())
  ORDER BY array_position($4::int[], workspace) NULLS FIRST, lease_until NULLS FIRST, job_id
  LIMIT 1 FOR UPDATE OF code_changes SKIP LOCKED
)
RETURNING job_id, workspace, book, parameters, before, pending;

-- name: undecided_users
-- The users of a job who have no code yet.
-- $1 job_id uuid
SELECT number, user_id FROM code_change_users WHERE job_id = $1 AND result IS NULL ORDER BY number;
