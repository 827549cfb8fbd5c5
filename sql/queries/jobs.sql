-- name: advance_job
-- Add to a job's progress, move the cursor of a change, and return the status. Requires lock_job.
-- $1 job_id uuid  $2 done bigint  $3 changed bigint  $4 unchanged bigint  $5 refused bigint  $6 before bigint
UPDATE jobs SET
  done = done + $2, requested = greatest(requested, done + $2), changed = changed + $3, unchanged = unchanged + $4,
  refused = refused + $5, before = $6, pending = NULL
WHERE job_id = $1
RETURNING status;

-- name: assigned_users
-- What became of the users of a job after one of them so far: number, code, result, status before and after, reason,
-- user.
-- $1 job_id uuid  $2 after int  $3 limit int
SELECT
  number,
  coalesce(code, ''),
  result,
  CASE result WHEN 'changed' THEN 'available' WHEN 'unchanged' THEN 'assigned' ELSE '' END,
  CASE result WHEN 'refused' THEN '' ELSE 'assigned' END, coalesce(reason, ''), user_id
FROM job_users WHERE job_id = $1 AND number > $2 AND result IS NOT NULL ORDER BY number LIMIT $3;

-- name: count_jobs
-- How many jobs have not ended, by kind and status.
SELECT kind, status, count(*) FROM jobs WHERE status IN ('running', 'paused') GROUP BY kind, status;

-- name: count_unfinished_jobs
-- How many jobs of a workspace and a kind have not ended, up to a bound.
-- $1 workspace int  $2 kind text  $3 limit int
SELECT count(*) FROM (
  SELECT FROM jobs WHERE workspace = $1 AND kind = $2 AND status IN ('running', 'paused') LIMIT $3
) AS unfinished;

-- name: decide_users
-- Store what became of some users of a job.
-- $1 job_id uuid  $2 numbers int[]  $3 results text[]  $4 codes text[]  $5 reasons text[]
UPDATE job_users SET result = decided.result, code = nullif(decided.code, ''), reason = nullif(decided.reason, '')
FROM unnest($2::int[], $3::text[], $4::text[], $5::text[]) AS decided (number, result, code, reason)
WHERE job_users.job_id = $1 AND job_users.number = decided.number;

-- name: end_job
-- Store a job's end, and notify the webhooks. Returns what it has done, or no row if it was paused or cancelled.
-- Requires lock_job.
-- $1 job_id uuid  $2 status text  $3 errors jsonb
WITH ended AS (
  UPDATE jobs SET
    status = $2, errors = $3, finished_at = now(), requested = CASE $2 WHEN 'done' THEN done ELSE requested END,
    pending = NULL
  WHERE job_id = $1 AND status = 'running'
  RETURNING job_id, workspace, kind, book, changed, unchanged, refused
)
SELECT
  workspace, kind, changed, unchanged, refused,
  (SELECT book_id FROM books WHERE books.workspace = ended.workspace AND books.book = ended.book) AS book_id,
  tell_webhooks(workspace, 'job.finished', job_id, NULL)
FROM ended;

-- name: insert_job
-- Insert a job.
-- $1 job_id uuid  $2 workspace int  $3 kind text  $4 book int  $5 parameters jsonb  $6 requested bigint
-- $7 before bigint
INSERT INTO jobs (job_id, workspace, kind, book, parameters, requested, before) VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: insert_job_results
-- Store what became of some codes.
-- $1 job_id uuid  $2 position bigint  $3 lines bytea
INSERT INTO job_results (job_id, position, lines) VALUES ($1, $2, $3);

-- name: insert_job_users
-- Insert the users to whom a job assigns codes, in the request's order, numbered from `first`.
-- $1 job_id uuid  $2 workspace int  $3 users text[]  $4 first int
INSERT INTO job_users (job_id, workspace, number, user_id)
SELECT $1, $2, $4 + number - 1, user_id FROM unnest($3::text[]) WITH ORDINALITY AS users (user_id, number);

-- name: jobs_by_id
-- These jobs, of any workspace.
-- $1 job_ids uuid[]
SELECT {job} FROM jobs JOIN workspaces USING (workspace) LEFT JOIN books USING (workspace, book)
WHERE job_id = ANY ($1);

-- name: keep_pending
-- Store the codes that scripts will decide next. Returns no row if the job was paused or cancelled. Requires lock_job.
-- $1 job_id uuid  $2 pending bytea
UPDATE jobs SET pending = $2 WHERE job_id = $1 AND status = 'running' RETURNING job_id;

-- name: lock_job
-- Keep the lease of a job's partition until the transaction ends. Returns no row if another worker has it.
-- $1 job_id uuid  $2 partition int  $3 fence bigint
SELECT job_id FROM jobs JOIN workspaces USING (workspace) JOIN partitions ON id = partition
WHERE job_id = $1 AND id = $2 AND fence = $3 FOR SHARE OF partitions;

-- name: page_changes_of_book
-- A book's newest jobs that have changed codes.
-- $1 workspace int  $2 book int  $3 limit int
SELECT job_id, parameters, started_at FROM jobs
WHERE workspace = $1 AND book = $2 AND changed > 0 ORDER BY job_id DESC LIMIT $3;

-- name: page_job_results
-- The next results of a job, the newest codes first, below a position.
-- $1 job_id uuid  $2 before bigint
SELECT position, lines FROM job_results WHERE job_id = $1 AND position < $2 ORDER BY position DESC LIMIT 1;

-- name: page_jobs
-- A workspace's jobs, newest first, before one.
-- $1 workspace int  $2 limit int  $3 before uuid
SELECT {job} FROM jobs JOIN workspaces USING (workspace) LEFT JOIN books USING (workspace, book)
WHERE workspace = $1 AND job_id < $3 ORDER BY job_id DESC LIMIT $2;

-- name: prune_jobs
-- Delete a bounded number of the jobs that ended long ago, with their results, the first to end first.
-- $1 days int  $2 limit int
DELETE FROM jobs WHERE job_id IN (
  SELECT job_id FROM jobs WHERE finished_at < now() - $1 * interval '1 day' ORDER BY finished_at LIMIT $2
);

-- name: read_outstanding_codes
-- How many codes of a book are still to be generated.
-- $1 workspace int  $2 book int
SELECT coalesce(sum(requested - done), 0)::bigint FROM jobs
WHERE workspace = $1 AND book = $2 AND status = 'running' AND kind = 'generate';

-- name: set_job_size
-- Set a job's progress and size. Requires lock_job.
-- $1 job_id uuid  $2 requested bigint  $3 done bigint
UPDATE jobs SET requested = $2, done = $3 WHERE job_id = $1 AND status = 'running';

-- name: set_job_status
-- Pause, resume or cancel a change that has not ended, and notify the webhooks of its end. Its worker still stores the
-- codes that it is changing. Returns no row if the job is no change, has ended, or has this status.
-- $1 workspace int  $2 job_id uuid  $3 status text
WITH changed AS (
  UPDATE jobs SET
    status = $3, finished_at = CASE WHEN $3 = 'cancelled' THEN now() END
  WHERE workspace = $1 AND job_id = $2 AND kind = 'change' AND status IN ('running', 'paused') AND status <> $3
  RETURNING job_id
)
SELECT job_id, CASE WHEN $3 = 'cancelled' THEN tell_webhooks($1, 'job.finished', job_id, NULL) END FROM changed;

-- name: take_job
-- Begin a turn of a job of a kind: of the workspace that was served longest ago, the job with the least left to do. For
-- each second since its order or its last turn, a job counts as 10,000 codes smaller. Of a cancelled change the codes
-- that scripts were deciding are still to be stored. Returns no row if another worker has the lease. A job that another
-- transaction has locked is left out, so that nothing waits for it; so is one that the task has set aside.
-- $1 partition int  $2 fence bigint  $3 kind text  $4 served int[]
UPDATE jobs SET turn_at = now()
WHERE job_id = (
  SELECT job_id FROM jobs JOIN workspaces USING (workspace) JOIN partitions ON id = partition
  WHERE id = $1 AND fence = $2 AND kind = $3 AND (status = 'running' OR (status = 'cancelled' AND pending IS NOT NULL))
    AND NOT is_set_aside(
      $1,
      CASE kind WHEN 'generate' THEN 'generating' WHEN 'change' THEN 'changing' ELSE 'reconciling' END,
      'job ' || job_id
    )
  ORDER BY
    array_position($4::int[], workspace) NULLS FIRST,
    requested - done - 10000 * extract(epoch FROM now() - coalesce(turn_at, started_at)), job_id
  LIMIT 1 FOR UPDATE OF jobs SKIP LOCKED
)
RETURNING job_id, workspace;

-- name: undecided_users
-- The first users of a job for whom nothing is decided yet, in the request's order.
-- $1 job_id uuid  $2 limit int
SELECT number, user_id FROM job_users WHERE job_id = $1 AND result IS NULL ORDER BY number LIMIT $2;
