-- name: set_aside
-- Keep an event that its Redis lost its place with; once.
-- $1 partition int  $2 epoch bigint  $3 seq bigint  $4 reason text  $5 d bytea  $6 r bytea
INSERT INTO quarantine (partition, epoch, seq, reason, d, r) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING;
