-- name: count_quarantine
-- How many events of a partition could not be recorded, and how many were set aside.
-- $1 partition int  $2 aside_reason text
SELECT count(*) FILTER (WHERE reason <> $2), count(*) FILTER (WHERE reason = $2) FROM quarantine WHERE partition = $1;

-- name: newest_in_quarantine
-- The newest events of a partition that could not be recorded, without what they say.
-- $1 partition int  $2 aside_reason text  $3 limit int
SELECT epoch, seq, reason, at FROM quarantine WHERE partition = $1 AND reason <> $2 ORDER BY epoch DESC, seq DESC LIMIT $3;

-- name: set_aside
-- Keep an event that its Redis lost its place with; once.
-- $1 partition int  $2 epoch bigint  $3 seq bigint  $4 reason text  $5 d bytea  $6 r bytea
INSERT INTO quarantine (partition, epoch, seq, reason, d, r) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING;
