-- name: begin_erasure
-- Order the replacement of a user by a pseudonym, up to an event and up to the newest code. An unfinished deletion of
-- the user keeps its pseudonym and extends to these.
-- $1 workspace int  $2 partition int  $3 user text  $4 pseudonym text  $5 version bigint  $6 epoch bigint
-- $7 seq bigint
INSERT INTO erasures AS old (workspace, partition, user_id, pseudonym, version, epoch, seq, position)
VALUES ($1, $2, $3, $4, $5, $6, $7, coalesce(pg_sequence_last_value(pg_get_serial_sequence('codes', 'position')), 0))
ON CONFLICT (workspace, user_id) WHERE user_id IS NOT NULL DO UPDATE SET
  version = excluded.version, position = excluded.position, ordered_at = now(),
  epoch = greatest(old.epoch, excluded.epoch),
  seq = CASE WHEN (old.epoch, old.seq) > (excluded.epoch, excluded.seq) THEN old.seq ELSE excluded.seq END
RETURNING pseudonym;

-- name: change_entries
-- Replace entries of idempotency keys, as Redis stores them, unless they have changed.
-- $1 workspace int  $2 keys text[]  $3 old text[]  $4 new text[]
UPDATE idempotency_keys SET entry = changed.new
FROM unnest($2::text[], $3::text[], $4::text[]) AS changed (key, old, new)
WHERE workspace = $1 AND idempotency_keys.key = changed.key
  AND regexp_replace(entry, '^(\S+ \S+ @)\.', '\1' || epoch || '-' || seq) = changed.old;

-- name: change_quarantined
-- Replace a quarantined event.
-- $1 partition int  $2 epoch bigint  $3 seq bigint  $4 d bytea  $5 r bytea
UPDATE quarantine SET d = $4, r = $5 WHERE partition = $1 AND epoch = $2 AND seq = $3;

-- name: delete_user
-- Delete a user's row.
-- $1 workspace int  $2 user text
DELETE FROM users WHERE workspace = $1 AND user_id = $2;

-- name: erase_assignments
-- Replace the user in a bounded number of open assignments up to an event, and in their facts.
-- $1 workspace int  $2 user text  $3 pseudonym text  $4 epoch bigint  $5 seq bigint  $6 limit int
WITH theirs AS (
  SELECT code, workspaces.partition, open.epoch, open.seq, assigned_at
  FROM open_assignments AS open JOIN workspaces USING (workspace)
  WHERE workspace = $1 AND user_id = $2 AND (open.epoch, open.seq) <= ($4, $5) LIMIT $6 FOR UPDATE OF open
), facts AS (
  UPDATE assignments a SET user_id = $3, ip = NULL, user_agent = NULL FROM theirs
  WHERE (a.partition, a.epoch, a.seq, a.assigned_at) = (theirs.partition, theirs.epoch, theirs.seq, theirs.assigned_at)
)
UPDATE open_assignments AS open SET user_id = $3 FROM theirs WHERE workspace = $1 AND open.code = theirs.code;

-- name: erase_ended_assignments
-- Replace the user in a bounded number of assignments that were taken back during the deletion, under the pseudonym.
-- $1 workspace int  $2 user text  $3 pseudonym text  $4 limit int
UPDATE assignments SET user_id = $3, ip = NULL, user_agent = NULL WHERE (partition, epoch, seq, assigned_at) IN (
  SELECT a.partition, a.epoch, a.seq, a.assigned_at FROM unassignments u JOIN assignments a
    ON (a.partition, a.epoch, a.seq, a.assigned_at) = (u.partition, u.assigned_epoch, u.assigned_seq, u.assigned_at)
  WHERE u.workspace = $1 AND u.user_id = $3 AND a.user_id = $2 LIMIT $4
);

-- name: erase_job_users
-- Replace the user in a bounded number of the jobs that assign codes, ordered before the deletion: the
-- UUIDv7 of a job and of a pseudonym sort by time. What was not decided for the user is refused.
-- $1 workspace int  $2 user text  $3 pseudonym text  $4 limit int
UPDATE job_users SET
  user_id = $3,
  reason = CASE WHEN result IS NULL THEN 'user_deleted' ELSE reason END,
  result = coalesce(result, 'refused')
WHERE (job_id, number) IN (
  SELECT job_id, number FROM job_users
  WHERE workspace = $1 AND user_id = $2 AND 'deleted-' || job_id < $3 COLLATE "C" LIMIT $4
);

-- name: erase_owner
-- Replace the user in a bounded number of the codes that the merchant gave the user, up to a position.
-- $1 workspace int  $2 user text  $3 pseudonym text  $4 position bigint  $5 limit int
UPDATE codes SET owner_id = $3 WHERE workspace = $1 AND code IN (
  SELECT code FROM codes WHERE workspace = $1 AND owner_id = $2 AND position <= $4 LIMIT $5
);

-- name: erase_redemptions
-- Replace the user in a bounded number of redemptions up to an event, and in their rollbacks.
-- $1 workspace int  $2 user text  $3 pseudonym text  $4 epoch bigint  $5 seq bigint  $6 limit int
WITH theirs AS (
  SELECT redemption_id FROM redemptions WHERE workspace = $1 AND user_id = $2 AND (epoch, seq) <= ($4, $5) LIMIT $6
), back AS (
  UPDATE rollbacks SET user_id = $3, ip = NULL, user_agent = NULL FROM theirs
  WHERE rollbacks.redemption_id = theirs.redemption_id
)
UPDATE redemptions SET user_id = $3, ip = NULL, user_agent = NULL FROM theirs
WHERE redemptions.redemption_id = theirs.redemption_id;

-- name: erase_report_user
-- Delete what roll-ups know of the user.
-- $1 workspace int  $2 user text
DELETE FROM report_users WHERE workspace = $1 AND user_id = $2;

-- name: erase_unassignments
-- Replace the user in a bounded number of unassignments, recorded up to a second event, and in the assignments that
-- they took back. Skip those of a new user of this name: of assignments after the first event, or of codes after the
-- position.
-- $1 workspace int  $2 user text  $3 pseudonym text  $4 epoch bigint  $5 seq bigint  $6 position bigint
-- $7 last_epoch bigint  $8 last_seq bigint  $9 limit int
WITH theirs AS (
  SELECT partition, epoch, seq, unassigned_at, assigned_epoch, assigned_seq, assigned_at FROM unassignments gone
  WHERE workspace = $1 AND user_id = $2 AND (epoch, seq) <= ($7, $8) AND CASE
      WHEN assigned_seq IS NOT NULL THEN (assigned_epoch, assigned_seq) <= ($4, $5)
      ELSE NOT EXISTS (
        SELECT FROM codes WHERE codes.workspace = $1 AND codes.code = gone.code AND owner_id = $2 AND position > $6
      )
    END
  LIMIT $9
), facts AS (
  UPDATE assignments a SET user_id = $3, ip = NULL, user_agent = NULL FROM theirs
  WHERE (a.partition, a.epoch, a.seq, a.assigned_at)
    = (theirs.partition, theirs.assigned_epoch, theirs.assigned_seq, theirs.assigned_at)
)
UPDATE unassignments u SET user_id = $3, ip = NULL, user_agent = NULL FROM theirs
WHERE (u.partition, u.epoch, u.seq, u.unassigned_at)
  = (theirs.partition, theirs.epoch, theirs.seq, theirs.unassigned_at);

-- name: finish_erasure
-- Remove the user's id, and store the deletion's last event. Nothing is recorded until the transaction ends. Returns no
-- row if the deletion was ordered again meanwhile.
-- $1 workspace int  $2 pseudonym text  $3 version bigint  $4 epoch bigint  $5 seq bigint  $6 partition int
WITH recording AS MATERIALIZED (SELECT id FROM partitions WHERE id = $6 FOR SHARE)
UPDATE erasures SET user_id = NULL, finished_at = now(), done_epoch = $4, done_seq = $5
FROM recording WHERE workspace = $1 AND pseudonym = $2 AND version = $3
RETURNING pseudonym;

-- name: has_deletions_after
-- Whether users of a partition, or of one workspace, are being deleted, or a deletion ended after an event.
-- $1 partition int  $2 epoch bigint  $3 seq bigint  $4 workspace int
SELECT EXISTS (
  SELECT FROM erasures WHERE partition = $1 AND (done_epoch IS NULL OR (done_epoch, done_seq) > ($2, $3))
    AND ($4::int IS NULL OR workspace = $4)
);

-- name: is_erased
-- Whether a pseudonym has replaced its user.
-- $1 workspace int  $2 pseudonym text
SELECT finished_at IS NOT NULL FROM erasures WHERE workspace = $1 AND pseudonym = $2;

-- name: is_erasing
-- Whether a deletion of a user of a workspace has not ended.
-- $1 workspace int
SELECT EXISTS (SELECT FROM erasures WHERE workspace = $1 AND user_id IS NOT NULL);

-- name: keys_after
-- Those of these idempotency keys that are of events after one.
-- $1 workspace int  $2 keys text[]  $3 epoch bigint  $4 seq bigint
SELECT key FROM idempotency_keys WHERE workspace = $1 AND key = ANY ($2) AND (epoch, seq) > ($3, $4);

-- name: page_assignments_to_erase
-- A user's assignments up to an event that Redis may store, in order, after one: the open ones, and all gifts.
-- $1 workspace int  $2 user text  $3 pseudonym text  $4 epoch bigint  $5 seq bigint  $6 after_at timestamptz
-- $7 after_code text  $8 limit int
SELECT code, assigned_at, order_id FROM (
  (
    SELECT code, assigned_at, order_id FROM open_assignments
    WHERE workspace = $1 AND user_id = $2 AND (epoch, seq) <= ($4, $5) AND (assigned_at, code) > ($6, $7)
    ORDER BY assigned_at, code LIMIT $8
  )
  UNION
  (
    SELECT code, assigned_at, order_id FROM unassignments
    WHERE workspace = $1 AND user_id IN ($2, $3) AND order_id IS NOT NULL AND (assigned_epoch, assigned_seq) <= ($4, $5)
      AND (assigned_at, code) > ($6, $7)
    ORDER BY assigned_at, code LIMIT $8
  )
) AS theirs
ORDER BY assigned_at, code LIMIT $8;

-- name: page_codes_to_erase
-- The codes that the merchant gave a user, up to a position, in order, after one.
-- $1 workspace int  $2 user text  $3 position bigint  $4 after_at timestamptz  $5 after_code text  $6 limit int
SELECT code, created_at FROM codes
WHERE workspace = $1 AND owner_id = $2 AND position <= $3 AND (created_at, code) > ($4, $5)
ORDER BY created_at, code LIMIT $6;

-- name: page_entries
-- Idempotency keys of events between two, in order, after a key, whose entries may name a user whom their requests
-- don't name: they contain one of these texts, or are compressed. With their bytes, and the entry itself, as Redis
-- stores it, if it is small.
-- $1 workspace int  $2 texts text[]  $3 from_epoch bigint  $4 from_seq bigint  $5 epoch bigint  $6 seq bigint
-- $7 after text  $8 limit int  $9 small_bytes int
SELECT
  key, octet_length(entry) AS bytes,
  CASE WHEN octet_length(entry) <= $9 THEN regexp_replace(entry, '^(\S+ \S+ @)\.', '\1' || epoch || '-' || seq) END
    AS entry
FROM idempotency_keys
WHERE workspace = $1 AND key > $7 AND (epoch, seq) > ($3, $4) AND (epoch, seq) <= ($5, $6) AND CASE
    WHEN left(entry, 600) ~ '^\S+ \S+ \d{3} \S+ B' THEN false
    WHEN left(entry, 600) ~ '^\S+ \S+ \d{3} \S+ (\S+ )?[Uz]' THEN true
    ELSE EXISTS (SELECT FROM unnest($2::text[]) AS searched (name) WHERE strpos(entry, name) > 0)
  END
ORDER BY key LIMIT $8;

-- name: page_quarantined
-- A partition's quarantined events up to one, in order, after one.
-- $1 partition int  $2 epoch bigint  $3 seq bigint  $4 after_epoch bigint  $5 after_seq bigint  $6 limit int
SELECT epoch, seq, d, r FROM quarantine
WHERE partition = $1 AND (epoch, seq) <= ($2, $3) AND (epoch, seq) > ($4, $5) ORDER BY epoch, seq LIMIT $6;

-- name: page_redemptions_to_erase
-- A user's redemptions up to an event, in order, after one; and whether a rollback restored the use, null without a
-- rollback.
-- $1 workspace int  $2 user text  $3 epoch bigint  $4 seq bigint  $5 after uuid  $6 limit int
SELECT
  redemption_id, r.epoch, r.seq, r.book, r.code, restore, (discount_amount * 10000)::bigint AS discount_e4,
  ms_of(coalesce(counted_at, redeemed_at)) AS counted_ms
FROM redemptions r LEFT JOIN rollbacks USING (redemption_id)
WHERE r.workspace = $1 AND r.user_id = $2 AND (r.epoch, r.seq) <= ($3, $4) AND redemption_id > $5
ORDER BY redemption_id LIMIT $6;

-- name: pending_erasures
-- Users to delete of a partition's next workspace after one, or of its first one after the last; without busy
-- workspaces and users that are set aside; the oldest order first.
-- $1 partition int  $2 limit int  $3 after_workspace int  $4 busy int[]
WITH pending AS NOT MATERIALIZED (
  SELECT workspace, partition, user_id, pseudonym, version, epoch, seq, position, started_at FROM erasures
  WHERE partition = $1 AND user_id IS NOT NULL AND workspace <> ALL ($4)
    AND NOT is_set_aside($1, 'erasing', 'user ' || pseudonym)
), next AS (
  (SELECT workspace FROM pending WHERE workspace > $3 ORDER BY workspace LIMIT 1)
  UNION ALL
  (SELECT workspace FROM pending WHERE workspace <= $3 ORDER BY workspace LIMIT 1)
  LIMIT 1
)
SELECT workspace, partition, user_id, pseudonym, version, epoch, seq, position FROM pending JOIN next USING (workspace)
ORDER BY started_at LIMIT $2;
