-- name: close_assignments
-- Delete the open assignments that were taken back. Returns each one's event, time and order, null for a code that the
-- user owned since upload; and whether the code was this user's, by an open assignment or by an upload that was never
-- taken back. During a deletion Redis may have the pseudonym while Postgres has the user.
-- $1 workspaces int[]  $2 codes text[]  $3 users text[]
WITH gone AS (
  SELECT gone.*, erasures.user_id AS erased_id
  FROM unnest($1::int[], $2::text[], $3::text[]) AS gone (workspace, code, user_id)
  LEFT JOIN erasures ON erasures.workspace = gone.workspace AND pseudonym = gone.user_id
), closed AS (
  DELETE FROM open_assignments AS open USING gone
  WHERE open.workspace = gone.workspace AND open.code = gone.code AND open.user_id IN (gone.user_id, erased_id)
  RETURNING open.workspace, open.code, epoch, seq, assigned_at, order_id
)
SELECT workspace, code, epoch, seq, assigned_at::text, order_id, epoch IS NOT NULL OR EXISTS (
  SELECT FROM codes WHERE codes.workspace = gone.workspace AND codes.code = gone.code
    AND owner_id IN (gone.user_id, erased_id)
    AND NOT EXISTS (SELECT FROM unassignments u WHERE u.workspace = gone.workspace AND u.code = gone.code)
) AS was_theirs
FROM gone LEFT JOIN closed USING (workspace, code);

-- name: ensure_fact_partitions
-- Create the table partitions of this month and some more; return how many are new.
-- $1 months_ahead int
SELECT ensure_fact_partitions($1);

-- name: facts_in_order
-- A partition's facts after an event, in order; a checkout's redemption before its gift.
-- $1 partition int  $2 epoch bigint  $3 seq bigint
SELECT {fact} FROM facts WHERE partition = $1 AND (epoch, seq) > ($2, $3) ORDER BY epoch, seq, kind DESC;

-- name: facts_of_event
-- The facts of an event: two for a checkout with a gift. With its workspace, also if that has moved to another
-- partition since.
-- $1 partition int  $2 epoch bigint  $3 seq bigint  $4 workspace int
SELECT {fact} FROM facts
WHERE partition = ANY (ARRAY[$1, (SELECT partition FROM workspaces WHERE workspace = $4)]) AND epoch = $2 AND seq = $3
ORDER BY kind DESC;

-- name: facts_to_redo
-- As facts_in_order, without facts of archived books.
-- $1 partition int  $2 epoch bigint  $3 seq bigint
SELECT {fact} FROM facts WHERE partition = $1 AND (epoch, seq) > ($2, $3)
  AND (workspace, book) NOT IN (
    SELECT workspace, book FROM books WHERE archived_at IS NOT NULL
  )
ORDER BY epoch, seq, kind DESC;

-- name: free_orders
-- Free the places in orders of redemptions that were rolled back. Returns the places.
-- $1 workspaces int[]  $2 orders text[]  $3 redemptions text[]
DELETE FROM order_uses USING unnest($1::int[], $2::text[], $3::text[]) AS gone (workspace, order_id, redemption_id)
WHERE order_uses.workspace = gone.workspace AND order_uses.order_id = gone.order_id
  AND order_uses.redemption_id = gone.redemption_id::uuid
RETURNING gone.redemption_id, slot;

-- name: free_singles
-- Free the codes with one use of rolled-back redemptions.
-- $1 workspaces int[]  $2 codes text[]  $3 redemptions text[]
DELETE FROM single_uses USING unnest($1::int[], $2::text[], $3::text[]) AS gone (workspace, code, redemption_id)
WHERE single_uses.workspace = gone.workspace AND single_uses.code = gone.code
  AND single_uses.redemption_id = gone.redemption_id::uuid;

-- name: kept_entries
-- The entries of these idempotency keys.
-- $1 workspaces int[]  $2 keys text[]
SELECT workspace, key, entry FROM idempotency_keys
JOIN unnest($1::int[], $2::text[]) AS wanted (workspace, key) USING (workspace, key);

-- name: live_keys
-- A partition's unexpired idempotency keys of events after one, with their entries' bytes, and the entry itself if it
-- is small.
-- $1 partition int  $2 epoch bigint  $3 seq bigint  $4 small_bytes int
SELECT
  workspace, key, CASE WHEN octet_length(entry) <= $4 THEN entry END AS entry,
  (extract(epoch FROM recorded_at + idempotency_hours * interval '1 hour' - now()) * 1000)::bigint AS ttl_ms,
  idempotency_keys.epoch, seq, octet_length(entry) AS bytes
FROM idempotency_keys JOIN workspaces USING (workspace)
WHERE workspaces.partition = $1 AND (idempotency_keys.epoch, seq) > ($2, $3)
  AND recorded_at > now() - idempotency_hours * interval '1 hour';

-- name: missing_months
-- The partitions of this month's and the next one's facts that don't exist.
SELECT month FROM pg_class CROSS JOIN generate_series(0, 1) AS ahead CROSS JOIN LATERAL (
  SELECT
    relname
    || to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead), '_YYYY_MM') AS month
) AS months
WHERE relkind = 'p' AND relnamespace = 'public'::regnamespace AND to_regclass(month) IS NULL ORDER BY month;

-- name: open_assignments
-- How many of these codes are assigned.
-- $1 workspaces int[]  $2 codes text[]
SELECT count(*) FROM open_assignments
JOIN unnest($1::int[], $2::text[]) AS wanted (workspace, code) USING (workspace, code);

-- name: prune_keys
-- Delete a bounded number of expired idempotency keys.
-- $1 limit int
DELETE FROM idempotency_keys WHERE (workspace, key) IN (
  SELECT k.workspace, key FROM idempotency_keys k LEFT JOIN workspaces USING (workspace)
  WHERE recorded_at <= now() - coalesce(idempotency_hours, 24) * interval '1 hour' LIMIT $1
);

-- name: store_keys
-- Insert idempotency keys. A key may be used again an hour after its last use (the shortest lifetime), and by the same
-- request if that assigned a code without a redemption, which was taken back: then the code in its entry is no longer
-- assigned by that event. Any other repetition is not stored, and the caller counts. In a test workspace a key may be
-- used again at any time: its clock may have been set back, and the last use may have been recorded less than an hour
-- ago.
-- $1 epoch bigint  $2 seqs bigint[]  $3 workspaces int[]  $4 keys text[]  $5 ops text[]  $6 times text[]
-- $7 entries text[]
INSERT INTO idempotency_keys AS old (epoch, seq, workspace, key, op, at, entry)
SELECT $1, seq, workspace, key, op, at::timestamptz, entry
FROM unnest($2::bigint[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[])
  AS new (seq, workspace, key, op, at, entry)
ON CONFLICT (workspace, key) DO UPDATE SET
  epoch = excluded.epoch, seq = excluded.seq, entry = excluded.entry, op = excluded.op, at = excluded.at,
  recorded_at = now()
WHERE old.at <= excluded.at - interval '1 hour' OR old.recorded_at <= now() - interval '1 hour'
  OR EXISTS (SELECT FROM workspaces WHERE workspaces.workspace = old.workspace AND mode = 'test')
  OR old.op IN ('assign', 'gift', 'checkout') AND old.op = excluded.op AND split_part(old.entry, ' ', 3) !~ '^@.'
    AND split_part(old.entry, ' ', 1) = split_part(excluded.entry, ' ', 1) AND NOT EXISTS (
      SELECT
      FROM open_assignments AS open
      WHERE open.workspace = old.workspace AND (open.epoch, open.seq) = (old.epoch, old.seq)
        AND open.code = split_part(old.entry, ' ', CASE split_part(old.entry, ' ', 3) WHEN '@' THEN 6 ELSE 4 END)
    );

-- name: store_quarantined
-- Quarantine an event that the record refused.
-- $1 partition int  $2 epoch bigint  $3 seq bigint  $4 reason text  $5 d bytea  $6 r bytea
INSERT INTO quarantine (partition, epoch, seq, cause, reason, d, r) VALUES ($1, $2, $3, 'refused', $4, $5, $6);
