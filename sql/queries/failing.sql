-- name: clear_task_failures
-- Delete a healthy task's failures.
-- $1 partition int  $2 task text
DELETE FROM failing_tasks WHERE partition = $1 AND task = $2;

-- name: read_failing_tasks
-- A partition's failing tasks, by name.
-- $1 partition int
SELECT task, failures, reason, since FROM failing_tasks WHERE partition = $1 ORDER BY task;

-- name: store_task_failure
-- Count a task's failure.
-- $1 partition int  $2 task text  $3 reason text
INSERT INTO failing_tasks (partition, task, failures, reason) VALUES ($1, $2, 1, $3)
ON CONFLICT (partition, task) DO UPDATE
SET failures = failing_tasks.failures + 1, reason = excluded.reason, last_at = now();
