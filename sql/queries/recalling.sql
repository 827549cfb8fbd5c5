-- name: order_was_rolled_back
-- Whether a redemption of an order was ever rolled back, as far as is recorded or in quarantine.
-- $1 partition int  $2 workspace int  $3 order text  $4 start bytea  $5 word bytea
SELECT EXISTS (SELECT FROM rollbacks WHERE workspace = $2 AND order_id = $3) OR EXISTS (
  SELECT FROM quarantine WHERE partition = $1 AND substring(d FOR octet_length($4::bytea)) = $4 AND position($5::bytea IN d) > 0
);

-- name: quarantined_redemption
-- What is kept of a redemption that the record couldn't take.
-- $1 partition int  $2 epoch bigint  $3 seq bigint
SELECT d, r FROM quarantine WHERE partition = $1 AND epoch = $2 AND seq = $3 AND substring(d FOR 2) = 'R '::bytea;

-- name: redemption_by_event
-- The redemption of an event, of whatever workspace: with a condition on that, too, Postgres takes its index of workspaces
-- for a month that was empty when it planned.
-- $1 partition int  $2 epoch bigint  $3 seq bigint
SELECT
  kind, epoch, seq, workspace, book, code, user_id, at_ms, ip, user_agent, order_id, redemption_id, value_e4, currency, digits,
  discount_e4, slot, max_redemptions, metadata, restore, reason, redeemed_epoch, redeemed_seq
FROM facts WHERE kind = 'R' AND partition = $1 AND epoch = $2 AND seq = $3;

-- name: redemption_by_id
-- A redemption, of whatever workspace.
-- $1 redemption uuid
SELECT
  kind, epoch, seq, workspace, book, code, user_id, at_ms, ip, user_agent, order_id, redemption_id, value_e4, currency, digits,
  discount_e4, slot, max_redemptions, metadata, restore, reason, redeemed_epoch, redeemed_seq
FROM facts WHERE kind = 'R'
  AND (partition, epoch, seq) = (SELECT partition, epoch, seq FROM redemptions WHERE redemption_id = $1);
