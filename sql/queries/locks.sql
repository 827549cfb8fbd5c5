-- name: add_lock_notes
-- Store notes of locks, extensions and releases. Drop those that are older than the last deletion of a user, whom they may
-- name, and a margin of a second; and answers that were repeated after the lock's deadline.
-- $1 workspaces int[]  $2 codes text[]  $3 digests bigint[]  $4 users text[]  $5 orders text[]  $6 until_ms bigint[]
-- $7 ages_ms bigint[]
INSERT INTO lock_notes (workspace, code, at, lock_digest, user_id, order_id, until)
SELECT workspace, code, at, digest, user_id, order_id, until
FROM unnest($1::int[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::bigint[])
  AS note (workspace, code, digest, user_id, order_id, until_ms, age_ms)
JOIN workspaces USING (workspace)
CROSS JOIN LATERAL (
  SELECT
    now() + (clock_offset_ms - age_ms) * interval '1 ms' AS at,
    to_timestamp(0) + until_ms * interval '1 ms' AS until
) AS times
WHERE (until IS NULL OR until > at) AND NOT EXISTS (
  SELECT FROM erasures WHERE erasures.workspace = note.workspace AND ordered_at > now() - (age_ms + 1000) * interval '1 ms'
);

-- name: begin_lock_notes
-- Before notes are stored, in their transaction: a deletion of a user waits for its end.
SELECT pg_advisory_xact_lock_shared(hashtext('lock_notes'));

-- name: erase_lock_notes
-- Replace the user in a bounded number of notes.
-- $1 workspace int  $2 user text  $3 pseudonym text  $4 limit int
UPDATE lock_notes SET user_id = $3 WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM lock_notes WHERE workspace = $1 AND user_id = $2 LIMIT $4
));

-- name: first_redemptions
-- When each of these users and orders redeemed a code first, with an id from one on and before another; null for never.
-- $1 workspace int  $2 code text  $3 users text[]  $4 orders text[]  $5 firsts uuid[]  $6 lasts uuid[]
SELECT (
  SELECT ms_of(redeemed_at) FROM redemptions
  WHERE workspace = $1 AND code = $2 AND redemptions.user_id = wanted.user_id
    AND order_id IS NOT DISTINCT FROM wanted.of_order AND redemption_id >= first AND redemption_id < last
  ORDER BY redemption_id LIMIT 1
) AS redeemed_ms
FROM unnest($3::text[], $4::text[], $5::uuid[], $6::uuid[])
  WITH ORDINALITY AS wanted (user_id, of_order, first, last, number) ORDER BY number;

-- name: page_lock_notes
-- The newest notes of a code's locks, newest first, and the time by the workspace's clock.
-- $1 workspace int  $2 code text  $3 limit int
SELECT
  lock_digest, user_id, order_id, ms_of(at) AS at_ms, ms_of(until) AS until_ms, ms_of(now()) + clock_offset_ms AS now_ms
FROM lock_notes JOIN workspaces USING (workspace)
WHERE workspace = $1 AND code = $2 ORDER BY at DESC LIMIT $3;

-- name: prune_lock_notes
-- Delete a bounded number of old notes. Several workers may do so at once.
-- $1 keep_days int  $2 limit int
DELETE FROM lock_notes WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM lock_notes WHERE noted_at < now() - $1 * interval '1 day' ORDER BY noted_at LIMIT $2
  FOR UPDATE SKIP LOCKED
));

-- name: wait_for_lock_notes
-- Wait for all transactions that store notes: those after it know of every deletion that was ordered before it.
SELECT pg_advisory_xact_lock(hashtext('lock_notes'));
