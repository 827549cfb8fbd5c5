-- name: count_quarantine
-- How many events of a partition the record refused, and how many were lost with their Redis.
-- $1 partition int  $2 lost_reason text
SELECT count(*) FILTER (WHERE reason <> $2), count(*) FILTER (WHERE reason = $2) FROM quarantine WHERE partition = $1;

-- name: has_quarantined
-- Whether an event with this content is in quarantine, of any partition.
-- $1 epoch bigint  $2 seq bigint  $3 decided bytea
SELECT EXISTS (SELECT FROM quarantine WHERE epoch = $1 AND seq = $2 AND d = $3);

-- name: is_quarantined
-- Whether an event of a workspace up to one was refused: any after another event, or one about one of these codes by
-- its user ('' for any). An unreadable event counts for every workspace; a stock notice for none.
-- $1 partition int  $2 lost_reason text  $3 not_redone text  $4 workspace int  $5 after_epoch bigint  $6 after_seq bigint
-- $7 epoch bigint  $8 seq bigint  $9 codes text[]  $10 users text[]
SELECT EXISTS (
  SELECT FROM quarantine
  WHERE partition = $1 AND reason <> $2 AND NOT starts_with(reason, $3) AND (epoch, seq) <= ($7, $8)
    AND CASE
      WHEN substring(d FOR 2) = 'S '::bytea THEN false
      WHEN encode(d, 'escape') ~ '^[A-Z] [0-9]+ ' AND position(convert_to(' ' || $4::int || ' ', 'UTF8') IN d) <> 2 THEN false
      WHEN (epoch, seq) > ($5, $6) THEN true
      ELSE EXISTS (
        SELECT FROM unnest($9::text[], $10::text[]) AS wanted (code, user_id)
        WHERE position(convert_to(' ' || code || ' ', 'UTF8') IN d || ' '::bytea) > 0
          AND (user_id = '' OR position(convert_to(' ' || user_id || ' ', 'UTF8') IN d || ' '::bytea) > 0)
      )
    END
);

-- name: newest_in_quarantine
-- The newest events that the record refused, without their content.
-- $1 partition int  $2 lost_reason text  $3 limit int
SELECT epoch, seq, reason, at FROM quarantine WHERE partition = $1 AND reason <> $2 ORDER BY epoch DESC, seq DESC LIMIT $3;

-- name: page_live_quarantine
-- A partition's quarantined events in order, after one, without those that were lost with their Redis.
-- $1 partition int  $2 lost_reason text  $3 after_epoch bigint  $4 after_seq bigint  $5 limit int
SELECT epoch, seq, d FROM quarantine WHERE partition = $1 AND reason <> $2 AND (epoch, seq) > ($3, $4)
ORDER BY epoch, seq LIMIT $5;

-- name: quarantine_lost
-- Quarantine an unrecorded event of a lost Redis, once.
-- $1 partition int  $2 epoch bigint  $3 seq bigint  $4 reason text  $5 d bytea  $6 r bytea
INSERT INTO quarantine (partition, epoch, seq, reason, d, r) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING;

-- name: quarantine_recorded
-- Quarantine recorded events that can't be applied again, each once; return the new ones.
-- $1 partition int  $2 epochs bigint[]  $3 seqs bigint[]  $4 reasons text[]  $5 decided bytea[]
INSERT INTO quarantine (partition, epoch, seq, reason, d, r)
SELECT $1, epoch, seq, reason, d, ''::bytea
FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::bytea[]) AS new (epoch, seq, reason, d)
ON CONFLICT DO NOTHING RETURNING epoch, seq;

-- name: refused_redemption
-- A redemption that the record refused. One that was lost with its Redis stands nowhere.
-- $1 partition int  $2 epoch bigint  $3 seq bigint  $4 lost_reason text
SELECT d, r FROM quarantine
WHERE partition = $1 AND epoch = $2 AND seq = $3 AND reason <> $4 AND substring(d FOR 2) = 'R '::bytea;
