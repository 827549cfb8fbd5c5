-- name: count_blocked
-- By partition, how many codes the events in quarantine name.
SELECT id AS partition, (
  SELECT count(DISTINCT (split_part(encode(d, 'escape'), ' ', 2), split_part(encode(d, 'escape'), ' ', 4)))
  FROM quarantine WHERE partition = id AND resolution IS NULL AND encode(d, 'escape') ~ '^[AURB] '
) AS blocked
FROM partitions ORDER BY id;

-- name: count_ordered
-- The number of unresolved events for which something is ordered, of a partition or all.
-- $1 partition int
SELECT count(*)
FROM quarantine
WHERE resolution IS NULL AND ordered IS NOT NULL AND ($1::int IS NULL OR partition = $1);

-- name: count_quarantines
-- How many unresolved events are in quarantine, by partition and cause.
SELECT partition, cause, count(*) FROM quarantine WHERE resolution IS NULL GROUP BY partition, cause;

-- name: has_quarantined
-- Whether an event with this content is, or was, in quarantine, of any partition.
-- $1 epoch bigint  $2 seq bigint  $3 decided bytea
SELECT EXISTS (SELECT FROM quarantine WHERE epoch = $1 AND seq = $2 AND d = $3);

-- name: is_quarantined
-- Whether an event of a workspace up to one was refused: any after another event, or one about one of these codes by
-- its user ('' for any). An unreadable event counts for every workspace; a stock notice for none.
-- $1 partition int  $2 workspace int  $3 after_epoch bigint  $4 after_seq bigint  $5 epoch bigint  $6 seq bigint
-- $7 codes text[]  $8 users text[]
SELECT EXISTS (
  SELECT FROM quarantine
  WHERE partition = $1 AND resolution IS NULL AND cause = 'refused' AND (epoch, seq) <= ($5, $6)
    AND CASE
      WHEN substring(d, 1, 2) = 'S '::bytea THEN false
      WHEN
        encode(d, 'escape') ~ '^[A-Z] [0-9]+ ' AND position(convert_to(' ' || $2::int || ' ', 'UTF8') IN d) <> 2
        THEN false
      WHEN (epoch, seq) > ($3, $4) THEN true
      ELSE EXISTS (
        SELECT FROM unnest($7::text[], $8::text[]) AS wanted (code, user_id)
        WHERE position(convert_to(' ' || code || ' ', 'UTF8') IN d || ' '::bytea) > 0
          AND (user_id = '' OR position(convert_to(' ' || user_id || ' ', 'UTF8') IN d || ' '::bytea) > 0)
      )
    END
);

-- name: list_quarantine
-- The first unresolved events, of a partition or all; of all, or those for which something is ordered.
-- $1 partition int  $2 limit int  $3 ordered boolean
SELECT partition, epoch, seq, cause, reason, d, r, at, ordered, failure, resolution, resolved_at FROM quarantine
WHERE resolution IS NULL AND ($1::int IS NULL OR partition = $1) AND (NOT $3 OR ordered IS NOT NULL)
ORDER BY epoch, seq LIMIT $2;

-- name: newest_in_quarantine
-- The newest unresolved events in quarantine, without their content.
-- $1 partition int  $2 limit int
SELECT epoch, seq, cause, reason, at FROM quarantine WHERE partition = $1 AND resolution IS NULL
ORDER BY epoch DESC, seq DESC LIMIT $2;

-- name: order_resolution
-- Order what a worker does with an unresolved event.
-- $1 partition int  $2 epoch bigint  $3 seq bigint  $4 choice text
UPDATE quarantine SET ordered = $4, failure = NULL
WHERE partition = $1 AND epoch = $2 AND seq = $3 AND resolution IS NULL;

-- name: order_resolutions
-- Order a choice for all unresolved events for which it is possible, of a partition or all, except those with an order.
-- Returns their number by workspace. The rules are those of choices_of (quarantine_resolutions.py): what is recorded
-- can't be released; only an event that names a code can be settled, and only one of which enough is known can be
-- recorded.
-- $1 partition int  $2 choice text
WITH ordered AS (
  UPDATE quarantine SET ordered = $2, failure = NULL
  WHERE resolution IS NULL AND ordered IS NULL AND ($1::int IS NULL OR partition = $1)
    AND CASE $2
      WHEN 'release' THEN cause <> 'not_redone'
      WHEN 'settle' THEN encode(d, 'escape') ~ '^[AURB] [0-9]{1,9} '
      ELSE encode(d, 'escape') ~ '^[AURB] [0-9]{1,9}( [^ ]+){5,}$'
    END
  RETURNING
    CASE WHEN encode(d, 'escape') ~ '^[A-Z] [0-9]{1,9} ' THEN split_part(encode(d, 'escape'), ' ', 2)::int ELSE 0 END
      AS workspace
)
SELECT workspace, count(*) AS events FROM ordered GROUP BY workspace ORDER BY workspace;

-- name: page_quarantine
-- A partition's unresolved events in order, after one.
-- $1 partition int  $2 after_epoch bigint  $3 after_seq bigint  $4 limit int
SELECT epoch, seq, d FROM quarantine WHERE partition = $1 AND resolution IS NULL AND (epoch, seq) > ($2, $3)
ORDER BY epoch, seq LIMIT $4;

-- name: quarantine_of_workspace
-- A workspace's unresolved events before one, the newest first.
-- $1 partition int  $2 workspace int  $3 before_epoch bigint  $4 before_seq bigint  $5 limit int
SELECT partition, epoch, seq, cause, reason, d, r, at, ordered, failure, resolution, resolved_at FROM quarantine
WHERE partition = $1 AND resolution IS NULL AND (epoch, seq) < ($3, $4)
  AND encode(d, 'escape') ~ ('^[A-Z] ' || $2::int || ' ')
ORDER BY epoch DESC, seq DESC LIMIT $5;

-- name: quarantine_recorded
-- Quarantine recorded events that can't be applied again, each once; return the new ones.
-- $1 partition int  $2 epochs bigint[]  $3 seqs bigint[]  $4 reasons text[]  $5 decided bytea[]
INSERT INTO quarantine (partition, epoch, seq, cause, reason, d, r)
SELECT $1, epoch, seq, 'not_redone', reason, d, ''::bytea
FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::bytea[]) AS new (epoch, seq, reason, d)
ON CONFLICT DO NOTHING RETURNING epoch, seq;

-- name: quarantine_unrecorded
-- Quarantine events that were not recorded before Redis was rebuilt, each once. What an operator has dropped is
-- released.
-- $1 partition int  $2 reason text  $3 is_dropped boolean  $4 epochs bigint[]  $5 seqs bigint[]  $6 d bytea[]
-- $7 r bytea[]
INSERT INTO quarantine (partition, epoch, seq, cause, reason, d, r, resolution, resolved_at)
SELECT $1, epoch, seq, 'unrecorded', $2, d, r, CASE WHEN $3 THEN 'release' END, CASE WHEN $3 THEN now() END
FROM unnest($4::bigint[], $5::bigint[], $6::bytea[], $7::bytea[]) AS event (epoch, seq, d, r)
ON CONFLICT DO NOTHING;

-- name: quarantined_named
-- The events of this id, of every partition.
-- $1 epoch bigint  $2 seq bigint
SELECT partition, epoch, seq, cause, reason, d, r, at, ordered, failure, resolution, resolved_at FROM quarantine
WHERE epoch = $1 AND seq = $2 ORDER BY partition;

-- name: refused_redemption
-- A redemption in quarantine that stands in Redis.
-- $1 partition int  $2 epoch bigint  $3 seq bigint
SELECT d, r FROM quarantine
WHERE partition = $1 AND epoch = $2 AND seq = $3 AND resolution IS NULL AND cause <> 'unrecorded'
  AND substring(d, 1, 2) = 'R '::bytea;

-- name: refused_rollback
-- A rollback in quarantine: the event with this start and this word.
-- $1 partition int  $2 start bytea  $3 word bytea
SELECT epoch, seq, d, r FROM quarantine
WHERE partition = $1 AND substring(d, 1, octet_length($2::bytea)) = $2 AND position($3::bytea IN d) > 0
LIMIT 1;

-- name: reject_resolution
-- Store why what was ordered failed.
-- $1 partition int  $2 epoch bigint  $3 seq bigint  $4 failure text
UPDATE quarantine SET ordered = NULL, failure = $4 WHERE partition = $1 AND epoch = $2 AND seq = $3;

-- name: resolve_quarantined
-- Store that what was ordered is done, unless the order has changed.
-- $1 partition int  $2 epochs bigint[]  $3 seqs bigint[]  $4 choices text[]
UPDATE quarantine SET ordered = NULL, failure = NULL, resolution = choice, resolved_at = clock_timestamp()
FROM unnest($2::bigint[], $3::bigint[], $4::text[]) AS done (epoch, seq, choice)
WHERE partition = $1 AND quarantine.epoch = done.epoch AND quarantine.seq = done.seq AND ordered = choice;
