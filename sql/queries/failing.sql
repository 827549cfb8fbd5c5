-- name: clear_task_failures
-- Delete a healthy task's failures, or those of a thing that it had set aside.
-- $1 partition int  $2 task text  $3 thing text
DELETE FROM failing_tasks WHERE partition = $1 AND task = $2 AND thing = $3;

-- name: count_set_aside
-- How many things tasks have set aside, by partition and task.
SELECT partition, task, count(*) FROM failing_tasks WHERE thing <> '' GROUP BY partition, task;

-- name: prune_set_aside
-- Forget a bounded number of things that no task has tried again for two hours after it could: they are gone.
-- $1 limit int
DELETE FROM failing_tasks WHERE (partition, task, thing) IN (
  SELECT partition, task, thing FROM failing_tasks WHERE next_try_at < now() - interval '2 hours' LIMIT $1
);

-- name: read_failing_tasks
-- A partition's failing tasks, by name, and what they have set aside: of all workspaces, or of one.
-- $1 partition int  $2 workspace int  $3 limit int
SELECT task, failures, reason, since, thing, name AS workspace, next_try_at
FROM failing_tasks LEFT JOIN workspaces USING (workspace)
WHERE failing_tasks.partition = $1 AND (thing = '' OR $2::int IS NULL OR failing_tasks.workspace = $2)
ORDER BY thing <> '', task, thing LIMIT $3;

-- name: read_resting
-- The things that a task of a partition leaves out now.
-- $1 partition int  $2 task text
SELECT thing FROM failing_tasks WHERE partition = $1 AND task = $2 AND next_try_at > clock_timestamp();

-- name: read_set_aside
-- The things that a task of a partition has set aside.
-- $1 partition int  $2 task text
SELECT thing FROM failing_tasks WHERE partition = $1 AND task = $2 AND thing <> '';

-- name: set_aside
-- Count a thing's failure, and leave it out for so many seconds, twice as many after each failure up to a maximum.
-- Returns the failures and the seconds.
-- $1 partition int  $2 task text  $3 thing text  $4 workspace int  $5 reason text  $6 first_s float8
-- $7 longest_s float8
INSERT INTO failing_tasks AS old (partition, task, thing, workspace, failures, reason, next_try_at)
VALUES ($1, $2, $3, $4, 1, $5, clock_timestamp() + $6 * interval '1 second')
ON CONFLICT (partition, task, thing) DO UPDATE SET
  failures = old.failures + 1, reason = excluded.reason, last_at = now(),
  next_try_at = clock_timestamp() + least($6 * 2 ^ least(old.failures, 30), $7) * interval '1 second'
RETURNING failures, extract(epoch FROM next_try_at - clock_timestamp())::float8;

-- name: store_task_failure
-- Count a task's failure.
-- $1 partition int  $2 task text  $3 reason text
INSERT INTO failing_tasks (partition, task, failures, reason) VALUES ($1, $2, 1, $3)
ON CONFLICT (partition, task, thing) DO UPDATE
SET failures = failing_tasks.failures + 1, reason = excluded.reason, last_at = now();
