-- name: assignments_by_event
-- Assignments and unassignments of these events.
-- $1 partition int  $2 epochs bigint[]  $3 seqs bigint[]
SELECT epoch, seq, 'coupon.assigned' AS event, code, book_id, user_id, order_id, assigned_at AS at
FROM assignments a JOIN unnest($2::bigint[], $3::bigint[]) AS wanted (epoch, seq) USING (epoch, seq)
LEFT JOIN books b ON b.workspace = a.workspace AND b.book = a.book
WHERE partition = $1
UNION ALL
SELECT epoch, seq, 'coupon.unassigned', code, book_id, user_id, NULL, unassigned_at
FROM unassignments u JOIN unnest($2::bigint[], $3::bigint[]) AS wanted (epoch, seq) USING (epoch, seq)
LEFT JOIN books b ON b.workspace = u.workspace AND b.book = u.book
WHERE partition = $1;

-- name: due_deliveries
-- Due deliveries of active webhooks, the oldest first, at most so many of each, without those that the sender has
-- taken; of a subject only the first. That one is looked up for each delivery, as a join took a second; in the order of
-- the index for it, as Postgres may else look for the least position among all deliveries, from the oldest on. Returns
-- nothing if the fence has changed.
-- $1 webhooks int[]  $2 rooms int[]  $3 taken bigint[]  $4 partition int  $5 fence bigint
SELECT
  position, webhook, event_id, event, happened_at, epoch, seq, about, data::text AS data, attempts,
  coalesce(extract(epoch FROM now() - first_attempt_at), 0)::float8 AS age_s
FROM unnest($1::int[], $2::int[]) AS wanted (number, room)
CROSS JOIN LATERAL (
  SELECT
    position, webhook, event_id, event, happened_at, one.epoch, one.seq, about, data, attempts, first_attempt_at
  FROM webhook_deliveries AS one JOIN webhooks USING (webhook)
  WHERE one.webhook = wanted.number AND webhooks.status = 'active' AND deleted_at IS NULL
    AND one.status = 'pending' AND next_attempt_at <= now() AND position <> ALL ($3::bigint[])
    AND (
      SELECT earlier.position FROM webhook_deliveries AS earlier
      WHERE earlier.webhook = one.webhook AND earlier.status = 'pending'
        AND (earlier.subject, earlier.position) >= (one.subject, 0)
      ORDER BY earlier.subject, earlier.position LIMIT 1
    ) IS NOT DISTINCT FROM CASE WHEN subject IS NOT NULL THEN position END
  ORDER BY position LIMIT wanted.room
) AS due
WHERE EXISTS (SELECT FROM partitions WHERE id = $4 AND fence = $5);

-- name: listening_webhooks
-- A partition's active webhooks that are not set aside, with their pending deliveries, counted up to a bound. Returns
-- nothing if the fence has changed.
-- $1 partition int  $2 fence bigint  $3 count_to int
SELECT
  webhook,
  workspace,
  webhook_id,
  url,
  secret,
  CASE WHEN old_secret_until > now() THEN old_secret END AS old_secret,
  epoch,
  seq,
  cursor_epoch, cursor_seq, pending, due, oldest_s
FROM (SELECT cursor_epoch, cursor_seq FROM partitions WHERE id = $1 AND fence = $2) AS cursor
CROSS JOIN webhooks
CROSS JOIN LATERAL (
  SELECT
    count(*)::int AS pending,
    (count(*) FILTER (WHERE next_attempt_at <= now()))::int AS due,
    coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS oldest_s
  FROM (
    SELECT next_attempt_at, created_at FROM webhook_deliveries
    WHERE webhook_deliveries.webhook = webhooks.webhook AND webhook_deliveries.status = 'pending'
    ORDER BY position
    LIMIT $3
  ) AS waiting
) AS counts
WHERE webhooks.partition = $1 AND status = 'active' AND deleted_at IS NULL
  AND NOT is_set_aside($1, 'sending', 'webhook ' || webhook_id);

-- name: make_deliveries
-- Make deliveries of a partition's next facts for webhooks at the same position. Returns their new position, the number
-- of deliveries, and the webhooks; no webhooks if another sender was faster or the fence has changed. The position is
-- written only with deliveries, or after a full batch without any. A checkout's redemption and gift are two facts of
-- one event, and stay together.
-- $1 partition int  $2 fence bigint  $3 webhooks int[]  $4 epoch bigint  $5 seq bigint  $6 last_epoch bigint
-- $7 last_seq bigint  $8 limit int
WITH listening AS MATERIALIZED (
  SELECT webhook, workspace, events FROM webhooks
  WHERE webhook = ANY($3) AND partition = $1 AND status = 'active' AND deleted_at IS NULL AND (epoch, seq) <= ($4, $5)
    AND EXISTS (SELECT FROM partitions WHERE id = $1 AND fence = $2)
  FOR UPDATE
), batch AS MATERIALIZED (
  SELECT * FROM (
    (
      SELECT
        1 AS part,
        'coupon.redeemed' AS event,
        epoch,
        seq,
        workspace,
        code AS subject,
        redeemed_at AS at,
        redemption_id AS about
     FROM redemptions WHERE partition = $1 AND (epoch, seq) > ($4, $5) AND (epoch, seq) <= ($6, $7)
     ORDER BY epoch, seq LIMIT $8)
    UNION ALL
    (SELECT 2, 'coupon.assigned', epoch, seq, workspace, code, assigned_at, NULL
     FROM assignments WHERE partition = $1 AND (epoch, seq) > ($4, $5) AND (epoch, seq) <= ($6, $7)
     ORDER BY epoch, seq LIMIT $8)
    UNION ALL
    (SELECT 3, 'coupon.unassigned', epoch, seq, workspace, code, unassigned_at, NULL
     FROM unassignments WHERE partition = $1 AND (epoch, seq) > ($4, $5) AND (epoch, seq) <= ($6, $7)
     ORDER BY epoch, seq LIMIT $8)
    UNION ALL
    (SELECT 4, 'redemption.rolled_back', epoch, seq, workspace, code, rolled_back_at, redemption_id
     FROM rollbacks WHERE partition = $1 AND (epoch, seq) > ($4, $5) AND (epoch, seq) <= ($6, $7)
     ORDER BY epoch, seq LIMIT $8)
    UNION ALL
    (SELECT 5, CASE WHEN what NOT IN ('codes', 'uses') THEN 'book.budget_low' WHEN notice = 'low' THEN 'book.low_stock'
       ELSE 'book.exhausted' END, epoch, seq, workspace, ' ' || book,
       noticed_at, NULL
     FROM stock_notices WHERE partition = $1 AND (epoch, seq) > ($4, $5) AND (epoch, seq) <= ($6, $7)
     ORDER BY epoch, seq LIMIT $8)
  ) AS facts ORDER BY epoch, seq FETCH FIRST ($8) ROWS WITH TIES
), made AS (
  INSERT INTO webhook_deliveries (webhook, event_id, event, happened_at, epoch, seq, subject, about)
  SELECT webhook, format('evt_%s-%s-%s', epoch, seq, part), event, at, epoch, seq, subject, about
  FROM batch JOIN listening USING (workspace) WHERE event = ANY(events) ORDER BY epoch, seq, part
  RETURNING 1
), passed AS (
  SELECT count(*) >= $8 AS is_full, (SELECT count(*) FROM made)::int AS made,
    coalesce((array_agg(epoch ORDER BY epoch DESC, seq DESC))[1], 0) AS epoch,
    coalesce((array_agg(seq ORDER BY epoch DESC, seq DESC))[1], 0) AS seq
  FROM batch
), reached AS (
  SELECT is_full, made, CASE WHEN is_full THEN epoch ELSE $6 END AS epoch, CASE WHEN is_full THEN seq ELSE $7 END AS seq
  FROM passed
), moved AS (
  UPDATE webhooks SET epoch = reached.epoch, seq = reached.seq FROM listening, reached
  WHERE webhooks.webhook = listening.webhook AND (made > 0 OR is_full)
)
SELECT reached.epoch, reached.seq, made, (SELECT array_agg(webhook) FROM listening) AS webhooks FROM reached;

-- name: note_failing
-- Store that these webhooks fail.
-- $1 webhooks int[]
UPDATE webhooks SET failing_since = now() WHERE webhook = ANY($1) AND failing_since IS NULL;

-- name: note_working
-- Store that these webhooks work. The pending deliveries of those that had failed for a minute are due at once.
-- $1 webhooks int[]
WITH working AS (
  UPDATE webhooks SET failing_since = NULL FROM webhooks AS before
  WHERE webhooks.webhook = ANY($1) AND webhooks.failing_since IS NOT NULL AND before.webhook = webhooks.webhook
  RETURNING webhooks.webhook, before.failing_since
)
UPDATE webhook_deliveries SET next_attempt_at = now() FROM working
WHERE webhook_deliveries.webhook = working.webhook AND status = 'pending' AND next_attempt_at > now()
  AND failing_since < now() - interval '1 minute';

-- name: notices_by_event
-- The stock notices of these events.
-- $1 partition int  $2 epochs bigint[]  $3 seqs bigint[]
SELECT epoch, seq, book_id, what, remaining, noticed_at, notice, coalesce(own_currency, currency) AS currency
FROM stock_notices s JOIN unnest($2::bigint[], $3::bigint[]) AS wanted (epoch, seq) USING (epoch, seq)
LEFT JOIN books b ON b.workspace = s.workspace AND b.book = s.book
JOIN workspaces w ON w.workspace = s.workspace
WHERE s.partition = $1;

-- name: read_due
-- A delivery of a webhook, as the sender has it.
-- $1 webhook int  $2 delivery_id uuid
SELECT
  position, webhook, event_id, event, happened_at, epoch, seq, about, data::text AS data, attempts,
  coalesce(extract(epoch FROM now() - first_attempt_at), 0)::float8 AS age_s
FROM webhook_deliveries WHERE webhook = $1 AND delivery_id = $2;

-- name: redemptions_by_id
-- These redemptions, of any workspace.
-- $1 redemptions uuid[]
SELECT {redemption} FROM past_redemptions WHERE redemption_id = ANY($1);

-- name: settle_deliveries
-- Store the results of attempts, unless the fence has changed. Of each delivery the newest attempts are kept.
-- $1 partition int  $2 fence bigint  $3 positions bigint[]  $4 states text[]  $5 pauses_ms bigint[]  $6 statuses int[]
-- $7 errors text[]  $8 attempts jsonb[]  $9 kept int
UPDATE webhook_deliveries AS one SET
  status = ended.state, attempts = attempts + 1, first_attempt_at = coalesce(first_attempt_at, now()),
  last_attempt_at = now(),
  next_attempt_at = now() + ended.pause_ms * interval '1 ms', last_status = ended.http_status, last_error = ended.error,
  attempt_log = coalesce(
    CASE WHEN jsonb_array_length(attempt_log) < $9 THEN attempt_log ELSE attempt_log - 0 END || ended.attempt,
    attempt_log
  )
FROM unnest($3::bigint[], $4::text[], $5::bigint[], $6::int[], $7::text[], $8::jsonb[])
  AS ended (position, state, pause_ms, http_status, error, attempt)
WHERE one.position = ended.position AND one.status = 'pending'
  AND EXISTS (SELECT FROM partitions WHERE id = $1 AND fence = $2);

-- name: switch_off_failing
-- Switch a webhook off whose every attempt of so many seconds failed, or whose receiver is gone, and notify the
-- workspace's others. Returns no row if it has not failed for so long, or is off already.
-- $1 webhook int  $2 reason text  $3 seconds int
WITH off AS (
  UPDATE webhooks SET status = 'inactive', reason = $2, inactive_since = now(), updated_at = now()
  WHERE webhook = $1 AND status = 'active' AND ($2 = 'gone' OR failing_since <= now() - $3 * interval '1 second')
  RETURNING workspace, webhook_id, url
)
SELECT workspace, webhook_id, tell_webhooks(
  workspace, 'webhook.disabled', NULL, json_build_object('webhookId', webhook_id, 'url', url, 'reason', $2::text)
) FROM off;
