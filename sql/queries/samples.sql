-- name: add_backlog
-- Store the unrecorded events of partitions in both steps (KEEP_S in samples.py); the highest of a step stays.
-- $1 at_s bigint  $2 partitions int[]  $3 events bigint[]  $4 oldest_ms bigint[]
INSERT INTO backlog_samples AS old (partition, step_s, at, events, oldest_ms)
SELECT partition, step_s, to_timestamp($1::bigint / step_s * step_s), events, oldest_ms
FROM unnest($2::int[], $3::bigint[], $4::bigint[]) AS sample (partition, events, oldest_ms)
CROSS JOIN (VALUES (10), (300)) AS steps (step_s) ORDER BY 1, 2
ON CONFLICT (partition, step_s, at) DO UPDATE SET
  events = greatest(old.events, excluded.events), oldest_ms = greatest(old.oldest_ms, excluded.oldest_ms);

-- name: add_sampled_steps
-- Store that an API process counted in both steps.
-- $1 at_s bigint
INSERT INTO sampled_steps (step_s, at)
SELECT step_s, to_timestamp($1::bigint / step_s * step_s) FROM (VALUES (10), (300)) AS steps (step_s) ORDER BY 1
ON CONFLICT DO NOTHING;

-- name: add_traffic
-- Add a process's counts and response times of workspaces to all steps. That of an hour has no response times, and is
-- of the workspace's time zone.
-- $1 at_s bigint  $2 workspaces int[]  $3 counts text[]  $4 times text[]
INSERT INTO traffic_samples AS old (workspace, step_s, at, counts, times)
SELECT
  workspace, step_s, CASE
    WHEN step_s < 3600 THEN to_timestamp($1::bigint / step_s * step_s)
    ELSE date_trunc('hour', to_timestamp($1::bigint), coalesce(time_zone, 'UTC'))
  END, counts::jsonb, CASE WHEN step_s < 3600 THEN times ELSE '{}' END::jsonb
FROM unnest($2::int[], $3::text[], $4::text[]) AS sample (workspace, counts, times)
LEFT JOIN workspaces USING (workspace)
CROSS JOIN (VALUES (10), (300), (3600)) AS steps (step_s) ORDER BY 1, 2
ON CONFLICT (workspace, step_s, at) DO UPDATE SET
  counts = add_counts(old.counts, excluded.counts), times = add_counts(old.times, excluded.times);

-- name: newest_backlog
-- The newest complete sample of each partition, of the last minute.
SELECT DISTINCT ON (partition) partition, events, oldest_ms FROM backlog_samples
WHERE step_s = 10 AND at > now() - interval '1 minute' AND at <= now() - interval '12 seconds'
ORDER BY partition, at DESC;

-- name: newest_traffic
-- Counts and response times of the newest complete step of ten seconds, of all workspaces (null) and of those with the
-- most responses.
-- $1 limit int
WITH newest AS MATERIALIZED (
  SELECT workspace, counts, times FROM traffic_samples WHERE step_s = 10 AND at = (
    SELECT max(at) FROM sampled_steps
    WHERE step_s = 10 AND at > now() - interval '1 minute' AND at <= now() - interval '12 seconds'
  )
), busiest AS (
  SELECT workspace, counts, times FROM newest
  ORDER BY (SELECT sum(value::bigint) FROM jsonb_each_text(counts)) DESC, workspace LIMIT $1
)
SELECT NULL AS name, (
  SELECT jsonb_object_agg(key, count) FROM (
    SELECT key, sum(value::bigint) AS count FROM newest, jsonb_each_text(counts) GROUP BY key
  ) AS counted
) AS counts, (
  SELECT jsonb_object_agg(key, count) FROM (
    SELECT key, sum(value::bigint) AS count FROM newest, jsonb_each_text(times) GROUP BY key
  ) AS timed
) AS times
UNION ALL
(SELECT coalesce(name, '-'), counts, times FROM busiest LEFT JOIN workspaces USING (workspace));

-- name: prune_backlog_samples
-- Delete a bounded number of expired samples of one step.
-- $1 step_s int  $2 keep_s int  $3 limit int
DELETE FROM backlog_samples WHERE (partition, step_s, at) IN (
  SELECT partition, step_s, at FROM backlog_samples WHERE step_s = $1 AND at < now() - $2 * interval '1 second' LIMIT $3
);

-- name: prune_sampled_steps
-- Delete a bounded number of expired steps.
-- $1 step_s int  $2 keep_s int  $3 limit int
DELETE FROM sampled_steps WHERE (step_s, at) IN (
  SELECT step_s, at FROM sampled_steps WHERE step_s = $1 AND at < now() - $2 * interval '1 second' LIMIT $3
);

-- name: prune_traffic_samples
-- Delete a bounded number of expired samples of one step.
-- $1 step_s int  $2 keep_s int  $3 limit int
DELETE FROM traffic_samples WHERE (workspace, step_s, at) IN (
  SELECT workspace, step_s, at FROM traffic_samples WHERE step_s = $1 AND at < now() - $2 * interval '1 second' LIMIT $3
);

-- name: read_backlog_samples
-- A partition's samples of steps that begin from one time on and before another, in order.
-- $1 partition int  $2 step_s int  $3 since_s bigint  $4 until_s bigint
SELECT extract(epoch FROM at)::bigint AS at_s, events, oldest_ms FROM backlog_samples
WHERE partition = $1 AND step_s = $2 AND at >= to_timestamp($3::bigint) AND at < to_timestamp($4::bigint) ORDER BY at;

-- name: read_traffic_samples
-- A workspace's samples of steps that begin from one time on and before another, in order. A step in which only others
-- had requests has empty objects; one in which no process counted has no row.
-- $1 workspace int  $2 step_s int  $3 since_s bigint  $4 until_s bigint
SELECT extract(epoch FROM at)::bigint AS at_s, coalesce(counts, '{}') AS counts, coalesce(times, '{}') AS times
FROM sampled_steps LEFT JOIN (
  SELECT step_s, at, counts, times FROM traffic_samples WHERE workspace = $1
) AS own USING (step_s, at)
WHERE step_s = $2 AND at >= to_timestamp($3::bigint) AND at < to_timestamp($4::bigint) ORDER BY at;
