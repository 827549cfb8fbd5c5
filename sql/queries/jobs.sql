-- name: advance_job
-- Add to a job's progress. Returns no row if another worker has the job.
-- $1 job_id uuid  $2 lease_token uuid  $3 done int  $4 lease_seconds int
UPDATE jobs SET done = done + $3, lease_until = now() + $4 * interval '1 second'
WHERE job_id = $1 AND lease_token = $2 AND status = 'running'
RETURNING done;

-- name: count_unfinished_generations
-- How many generations of a workspace have not ended, up to a bound.
-- $1 workspace int  $2 limit int
SELECT count(*) FROM (
    SELECT FROM jobs WHERE workspace = $1 AND status = 'running' AND kind = 'generate' LIMIT $2
) AS unfinished;

-- name: finish_job
-- Store a job's end, and notify the webhooks. Returns no row if another worker has the job.
-- $1 job_id uuid  $2 lease_token uuid  $3 status text  $4 errors jsonb
WITH finished AS (
    UPDATE jobs SET status = $3, errors = $4, finished_at = now(), lease_token = NULL, lease_until = NULL
    WHERE job_id = $1 AND lease_token = $2 AND status = 'running'
    RETURNING job_id, workspace
)
SELECT job_id, tell_webhooks(workspace, 'job.finished', job_id, NULL) FROM finished;

-- name: insert_job
-- Insert a job, for any worker.
-- $1 job_id uuid  $2 workspace int  $3 kind text  $4 parameters jsonb  $5 requested bigint
INSERT INTO jobs (job_id, workspace, kind, parameters, requested) VALUES ($1, $2, $3, $4, $5)
RETURNING job_id, workspace, kind, parameters, status, requested, done, errors, started_at, finished_at,
    (SELECT partition FROM workspaces WHERE workspaces.workspace = jobs.workspace) AS partition;

-- name: prune_jobs
-- Among a bounded number of the oldest jobs, delete those that ended long ago.
-- $1 days int  $2 limit int
DELETE FROM jobs WHERE job_id IN (
    SELECT job_id FROM (SELECT job_id, finished_at FROM jobs ORDER BY job_id LIMIT $2) AS oldest
    WHERE finished_at < now() - $1 * interval '1 day'
);

-- name: read_job
-- A job of a workspace.
-- $1 workspace int  $2 job_id uuid
SELECT job_id, workspace, kind, parameters, status, requested, done, errors, started_at, finished_at, changed, unchanged,
    refused, (SELECT partition FROM workspaces WHERE workspaces.workspace = all_jobs.workspace) AS partition,
    (SELECT book_id FROM books WHERE books.workspace = all_jobs.workspace AND books.book = all_jobs.book) AS book_id
FROM all_jobs
WHERE workspace = $1 AND job_id = $2;

-- name: read_outstanding_codes
-- How many codes of a book are still to be generated.
-- $1 workspace int  $2 book int
SELECT coalesce(sum(requested - done), 0)::bigint FROM jobs
WHERE workspace = $1 AND status = 'running' AND kind = 'generate' AND (parameters ->> 'book')::int = $2;

-- name: release_job
-- Release a job, for any worker.
-- $1 job_id uuid  $2 lease_token uuid
UPDATE jobs SET lease_token = NULL, lease_until = NULL WHERE job_id = $1 AND lease_token = $2;

-- name: take_job
-- Lease a job of a kind of the partition without a live lease: of the workspace that was served longest ago, the one
-- with the fewest codes left. For each second that it waits, a job counts as 10,000 codes smaller.
-- $1 lease_token uuid  $2 lease_seconds int  $3 partition int  $4 kind text  $5 served int[]
UPDATE jobs SET lease_token = $1, lease_until = now() + $2 * interval '1 second'
WHERE job_id = (
    SELECT job_id FROM jobs JOIN workspaces USING (workspace)
    WHERE partition = $3 AND kind = $4 AND status = 'running' AND (lease_until IS NULL OR lease_until < now())
    ORDER BY
        array_position($5::int[], workspace) NULLS FIRST,
        requested - done - 10000 * extract(epoch FROM now() - started_at), job_id
    LIMIT 1 FOR UPDATE OF jobs SKIP LOCKED
)
RETURNING job_id, workspace, kind, parameters, status, requested, done, errors, started_at, finished_at,
    (SELECT partition FROM workspaces WHERE workspaces.workspace = jobs.workspace) AS partition;
