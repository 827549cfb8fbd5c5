-- name: delete_webhook
-- Mark a webhook as deleted, and clear its secrets; housekeeping removes the rest.
-- $1 workspace int  $2 webhook_id uuid
UPDATE webhooks SET
  deleted_at = now(), status = 'inactive', inactive_since = coalesce(inactive_since, now()), reason = NULL,
  secret = '', old_secret = NULL, old_secret_until = NULL
WHERE workspace = $1 AND webhook_id = $2 AND deleted_at IS NULL RETURNING webhook;

-- name: insert_webhook
-- Insert a webhook for facts from now on, in the workspace's partition. Returns no row if the workspace has too many.
-- $1 workspace int  $2 url text  $3 events text[]  $4 description text  $5 secret bytea  $6 most int
INSERT INTO webhooks (workspace, partition, url, events, description, secret, epoch, seq)
SELECT $1, id, $2, $3, $4, $5, cursor_epoch, cursor_seq FROM workspaces JOIN partitions ON id = partition
WHERE workspace = $1 AND (SELECT count(*) FROM webhooks WHERE workspace = $1 AND deleted_at IS NULL) < $6
RETURNING
  webhook, webhook_id, url, events, description, status, reason, inactive_since, failing_since, created_at, updated_at;

-- name: lock_webhooks
-- Serialize the creation of a workspace's webhooks, and their test deliveries and redeliveries, until the transaction
-- ends.
-- $1 workspace int
SELECT pg_advisory_xact_lock(hashtext('webhooks'), $1);

-- name: notify_webhooks
-- Make deliveries to the workspace's webhooks with this event; return their number.
-- $1 workspace int  $2 event text  $3 data json
SELECT tell_webhooks($1, $2, NULL, $3);

-- name: page_deliveries
-- A webhook's deliveries, newest first.
-- $1 webhook int  $2 before bigint  $3 limit int
SELECT
  position, delivery_id, event_id, event, status, attempts, last_status, last_error, created_at, last_attempt_at,
  CASE status WHEN 'pending' THEN next_attempt_at END AS next_attempt_at
FROM webhook_deliveries WHERE webhook = $1 AND ($2::bigint IS NULL OR position < $2) ORDER BY position DESC LIMIT $3;

-- name: page_webhooks
-- A workspace's webhooks, newest first.
-- $1 workspace int  $2 before int  $3 limit int
SELECT
  webhook, webhook_id, url, events, description, status, reason, inactive_since, failing_since, created_at, updated_at
FROM webhooks WHERE workspace = $1 AND deleted_at IS NULL AND ($2::int IS NULL OR webhook < $2)
ORDER BY webhook DESC LIMIT $3;

-- name: patch_webhook
-- Change what is not null. A webhook that is switched on continues at its position, unless it was off for too long.
-- $1 workspace int  $2 webhook_id uuid  $3 url text  $4 events text[]  $5 description text  $6 status text
-- $7 keep_days int
UPDATE webhooks SET
  url = coalesce($3, url), events = coalesce($4, events), description = coalesce($5, description),
  status = coalesce($6, status),
  reason = CASE WHEN coalesce($6, status) = 'inactive' THEN reason END,
  inactive_since = CASE WHEN coalesce($6, status) = 'inactive' THEN coalesce(inactive_since, now()) END,
  failing_since = CASE WHEN $6 = 'active' THEN NULL ELSE failing_since END,
  epoch
  = CASE
    WHEN $6 = 'active' AND inactive_since < now() - $7 * interval '1 day' THEN cursor_epoch ELSE webhooks.epoch
  END,
  seq = CASE WHEN $6 = 'active' AND inactive_since < now() - $7 * interval '1 day' THEN cursor_seq ELSE seq END,
  updated_at = now()
FROM partitions
WHERE workspace = $1 AND webhook_id = $2 AND deleted_at IS NULL AND partitions.id = partition
RETURNING
  webhook, webhook_id, url, events, description, status, reason, inactive_since, failing_since, created_at, updated_at;

-- name: prune_deliveries
-- Among a bounded number of the oldest deliveries, delete the expired ones.
-- $1 days int  $2 limit int
DELETE FROM webhook_deliveries WHERE position IN (
  SELECT position FROM (SELECT position, created_at FROM webhook_deliveries ORDER BY position LIMIT $2) AS oldest
  WHERE created_at < now() - $1 * interval '1 day'
);

-- name: prune_old_secrets
-- Clear expired old secrets.
UPDATE webhooks SET old_secret = NULL, old_secret_until = NULL WHERE old_secret_until <= now();

-- name: prune_webhooks
-- Delete a bounded number of deliveries of deleted webhooks, and the webhooks without any left.
-- $1 limit int
WITH gone AS (
  SELECT webhook FROM webhooks WHERE deleted_at IS NOT NULL LIMIT 100
), theirs AS (
  DELETE FROM webhook_deliveries WHERE position IN (
    SELECT position FROM webhook_deliveries JOIN gone USING (webhook) LIMIT $1
  ) RETURNING webhook
)
DELETE FROM webhooks WHERE webhook IN (SELECT webhook FROM gone)
  AND NOT EXISTS (SELECT FROM webhook_deliveries d WHERE d.webhook = webhooks.webhook);

-- name: read_delivery
-- A delivery of a webhook.
-- $1 webhook int  $2 delivery_id uuid
SELECT
  position, delivery_id, event_id, event, status, attempts, last_status, last_error, created_at, last_attempt_at,
  CASE status WHEN 'pending' THEN next_attempt_at END AS next_attempt_at, attempt_log
FROM webhook_deliveries WHERE webhook = $1 AND delivery_id = $2;

-- name: read_webhook
-- A webhook of a workspace.
-- $1 workspace int  $2 webhook_id uuid
SELECT
  webhook, webhook_id, url, events, description, status, reason, inactive_since, failing_since, created_at, updated_at
FROM webhooks WHERE workspace = $1 AND webhook_id = $2 AND deleted_at IS NULL;

-- name: redeliver
-- Send a delivery again, or a pending one at once. One in flight is not affected. Returns no row if there is none, or
-- if so many others of the webhook are pending. Requires lock_webhooks.
-- $1 webhook int  $2 delivery_id uuid  $3 most int
UPDATE webhook_deliveries SET
  attempts = CASE status WHEN 'pending' THEN attempts ELSE 0 END,
  first_attempt_at = CASE status WHEN 'pending' THEN first_attempt_at END,
  status = 'pending', next_attempt_at = now()
WHERE webhook = $1 AND delivery_id = $2 AND (status = 'pending' OR (
  SELECT count(*) FROM (
    SELECT FROM webhook_deliveries WHERE webhook = $1 AND status = 'pending' LIMIT $3
  ) AS waiting
) < $3)
RETURNING true;

-- name: rotate_secret
-- Sign with a new secret, and for some time also with the previous one.
-- $1 workspace int  $2 webhook_id uuid  $3 secret bytea  $4 overlap_seconds int
UPDATE webhooks SET
  old_secret = CASE WHEN $4 > 0 THEN secret END,
  old_secret_until = CASE WHEN $4 > 0 THEN now() + $4 * interval '1 second' END,
  secret = $3, updated_at = now()
WHERE workspace = $1 AND webhook_id = $2 AND deleted_at IS NULL
RETURNING
  webhook, webhook_id, url, events, description, status, reason, inactive_since, failing_since, created_at, updated_at;

-- name: send_test_event
-- Make a test delivery. Returns no row if so many of the webhook are pending. Requires lock_webhooks.
-- $1 webhook int  $2 data json  $3 most int
INSERT INTO webhook_deliveries (webhook, event_id, event, happened_at, data)
SELECT $1, 'evt_' || new_uuid7(), 'webhook.test', now(), $2
WHERE (
  SELECT count(*) FROM webhook_deliveries WHERE webhook = $1 AND status = 'pending' AND event = 'webhook.test'
) < $3
RETURNING
  position, delivery_id, event_id, event, status, attempts, last_status, last_error, created_at, last_attempt_at,
  next_attempt_at;

-- name: send_waiting
-- Make a webhook's pending deliveries due, as if never attempted.
-- $1 webhook int
UPDATE webhook_deliveries SET next_attempt_at = now(), attempts = 0, first_attempt_at = NULL
WHERE webhook = $1 AND status = 'pending';
