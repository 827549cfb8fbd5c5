-- name: gift_rolled_back
-- When a rollback of the order took this gift back, in ms.
-- $1 workspace int  $2 code text  $3 assigned_ms bigint
SELECT ms_of(unassigned_at) FROM unassignments
WHERE workspace = $1 AND code = $2 AND ms_of(assigned_at) = $3 AND rolled_back LIMIT 1;

-- name: order_was_rolled_back
-- Whether a rollback of one of the order's redemptions is recorded, unless its book is archived, or in quarantine: an
-- event with this start and this word.
-- $1 partition int  $2 workspace int  $3 order text  $4 start bytea  $5 word bytea
SELECT EXISTS (
  SELECT FROM rollbacks JOIN books USING (workspace, book)
  WHERE workspace = $2 AND order_id = $3 AND archived_at IS NULL
) OR EXISTS (
  SELECT
  FROM quarantine
  WHERE partition = $1 AND substring(d, 1, octet_length($4::bytea)) = $4 AND position($5::bytea IN d) > 0
);

-- name: redemption_by_event
-- The redemption of an event, in any workspace. With a condition on the workspace, Postgres uses its index by workspace
-- for a month that was empty at planning.
-- $1 partition int  $2 epoch bigint  $3 seq bigint
SELECT {fact} FROM facts WHERE kind = 'R' AND partition = $1 AND epoch = $2 AND seq = $3;

-- name: redemption_rolled_back
-- When a redemption was rolled back, in ms.
-- $1 redemption uuid
SELECT ms_of(rolled_back_at) FROM rollbacks WHERE redemption_id = $1;
