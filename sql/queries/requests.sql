-- name: add_refused_requests
-- Store a process's refused requests of a second, and how many more it did not keep.
-- $1 digests int[]  $2 refusals text  $3 dropped jsonb
INSERT INTO refused_requests (digests, refusals, dropped) VALUES ($1, $2, $3);

-- name: count_dropped_refusals
-- How many refused requests of the last seconds were not stored, of a workspace; without one, of all.
-- $1 keep_s int  $2 workspace text
SELECT coalesce(sum(of.count::bigint), 0)::bigint FROM refused_requests, jsonb_each_text(dropped) AS of (name, count)
WHERE at > now() - $1 * interval '1 second' AND ($2::text IS NULL OR of.name = $2);

-- name: find_refused_requests
-- The newest rows of the last seconds that may have a request id with this digest; all of them without a limit.
-- $1 digest int  $2 keep_s int  $3 limit int
SELECT refusals FROM refused_requests WHERE $1 = ANY (digests) AND at > now() - $2 * interval '1 second'
ORDER BY at DESC LIMIT $3;

-- name: prune_refused_requests
-- Delete a bounded number of old rows.
-- $1 keep_s int  $2 limit int
DELETE FROM refused_requests WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM refused_requests WHERE at < now() - $1 * interval '1 second' LIMIT $2
));
