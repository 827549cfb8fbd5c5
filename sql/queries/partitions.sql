-- name: begin_epoch
-- Draw a new epoch and close the partition. Returns no row if the fence has changed.
-- $1 partition int  $2 fence bigint  $3 nonce text
UPDATE partitions SET epoch = nextval('epochs'), nonce = $3, state = 'closed' WHERE id = $1 AND fence = $2
RETURNING epoch;

-- name: bump_config_version
-- Number a configuration change. The row stays locked until the transaction ends, so that numbers have no gaps. Returns
-- no row if Postgres has restarted since a worker compared it with Redis.
-- $1 partition int
UPDATE config_versions SET version = version + 1
WHERE partition = $1 AND EXISTS (SELECT FROM partitions WHERE id = $1 AND incarnation = incarnation())
RETURNING version;

-- name: close_for_wait
-- Close a partition for so many seconds, unless it waits already. Returns the seconds that are left; no row if the
-- fence has changed.
-- $1 partition int  $2 fence bigint  $3 seconds float8
UPDATE partitions SET
  state = 'closed', waits_until = coalesce(waits_until, clock_timestamp() + $3 * interval '1 second')
WHERE id = $1 AND fence = $2
RETURNING extract(epoch FROM waits_until - clock_timestamp())::float8;

-- name: close_partition
-- Close a partition, and store what this Postgres lacks of what Redis has, or null. Returns no row if the fence has
-- changed.
-- $1 partition int  $2 fence bigint  $3 lacks text
UPDATE partitions SET state = 'closed', lacks = $3 WHERE id = $1 AND fence = $2 RETURNING id;

-- name: confirm_incarnation
-- Store that Redis has no configuration that this Postgres lacks. Returns no row if the fence has changed or Postgres
-- has restarted.
-- $1 partition int  $2 fence bigint  $3 incarnation text
UPDATE partitions SET incarnation = $3 WHERE id = $1 AND fence = $2 AND incarnation() = $3 RETURNING id;

-- name: confirm_open
-- Mark the epoch as open. Returns no row if fence or epoch have changed, the cursor is in another epoch, or Postgres
-- has restarted since Redis was restored from it.
-- $1 partition int  $2 fence bigint  $3 epoch bigint  $4 incarnation text
UPDATE partitions SET state = 'open', incarnation = $4, opened_nonce = nonce, waits_until = NULL
WHERE id = $1 AND fence = $2 AND epoch = $3 AND cursor_epoch = $3 AND incarnation() = $4 RETURNING id;

-- name: count_streaming
-- How many standbys stream, as far as this role sees them: as in read_flushed.
SELECT count(*) FROM pg_stat_replication
WHERE state = 'streaming' AND application_name NOT IN ('pg_basebackup', 'pg_receivewal')
  AND NOT EXISTS (SELECT FROM pg_replication_slots WHERE active_pid = pid AND slot_type = 'logical');

-- name: count_workspaces
-- How many workspaces are in each partition.
SELECT partition, count(*) AS workspaces FROM workspaces GROUP BY partition;

-- name: enter_epoch
-- Move the cursor to one of the first entries of a newer epoch, and store where the record of the old one ended.
-- $1 partition int  $2 fence bigint  $3 from_epoch bigint  $4 from_seq bigint  $5 epoch bigint  $6 digest bytea
-- $7 seq bigint
WITH moved AS (
  UPDATE partitions SET cursor_epoch = $5, cursor_seq = $7, cursor_digest = $6, recorded_at = clock_timestamp()
  WHERE id = $1 AND fence = $2 AND cursor_epoch = $3 AND cursor_seq = $4 AND cursor_epoch < $5 AND epoch >= $5
  RETURNING id
)
INSERT INTO closed_epochs (partition, epoch, last_seq) SELECT id, $3, $4 FROM moved RETURNING partition;

-- name: epochs_end
-- The last recorded event of a closed epoch. Returns no row if none was recorded.
-- $1 partition int  $2 epoch bigint
SELECT last_seq FROM closed_epochs WHERE partition = $1 AND epoch = $2;

-- name: insert_partitions
-- Insert the missing rows of partitions.
-- $1 partitions int
WITH wanted AS (SELECT generate_series(0, $1::int - 1) AS id),
made AS (INSERT INTO partitions (id, incarnation) SELECT id, incarnation() FROM wanted ON CONFLICT DO NOTHING)
INSERT INTO config_versions (partition) SELECT id FROM wanted ON CONFLICT DO NOTHING;

-- name: insert_settings
-- Set the number of partitions of a new database.
-- $1 partitions int
INSERT INTO settings (partitions) VALUES ($1) ON CONFLICT DO NOTHING;

-- name: lock_epochs
-- Serialize changes of the epochs' sequence until the transaction ends.
SELECT pg_advisory_xact_lock(hashtext('epochs'));

-- name: lock_fence
-- Keep the lease's owner until the transaction ends. Returns no row if another worker has the lease.
-- $1 partition int  $2 fence bigint
SELECT id FROM partitions WHERE id = $1 AND fence = $2 FOR SHARE;

-- name: may_read_standbys
-- Whether this role sees how far the standbys are.
SELECT current_user, pg_has_role('pg_read_all_stats', 'USAGE');

-- name: missing_rights
-- The rights that a role lacks, each once for a table. No role is that of the session, no column the whole table.
-- $1 role text  $2 rights text[]  $3 table_names text[]  $4 columns text[]
SELECT DISTINCT right_name, table_name
FROM unnest($2::text[], $3::text[], $4::text[]) AS needed (right_name, table_name, column_name)
CROSS JOIN coalesce($1::name, current_user) AS role
WHERE NOT CASE
  WHEN column_name IS NULL THEN has_table_privilege(role, table_name, right_name)
  ELSE has_column_privilege(role, table_name, column_name, right_name)
END
ORDER BY table_name, right_name;

-- name: move_cursor
-- Advance a partition's cursor. Returns no row if epoch, cursor or fence have changed.
-- $1 partition int  $2 epoch bigint  $3 from_seq bigint  $4 to_seq bigint  $5 fence bigint  $6 digest bytea
UPDATE partitions SET
  cursor_seq = $4, cursor_digest = $6, recorded_at = clock_timestamp(), recorded_events = recorded_events + $4 - $3
WHERE id = $1 AND cursor_epoch = $2 AND cursor_seq = $3 AND fence = $5 AND $4 > $3
RETURNING id;

-- name: raise_epochs
-- Make the next epoch higher than a known one.
-- $1 epoch bigint
SELECT setval('epochs', $1) WHERE (SELECT last_value FROM epochs) < $1;

-- name: read_cursors
-- The cursors of these partitions.
-- $1 partitions int[]
SELECT id, cursor_epoch, cursor_seq FROM partitions WHERE id = ANY($1);

-- name: read_flushed
-- The cursor, a position of the WAL behind its commit, and the position that so many standbys have flushed; null if
-- fewer stream. Copies that are no standbys don't count: subscribers, backups, archives.
-- $1 partition int  $2 standbys int
SELECT incarnation(), cursor_epoch, cursor_seq, (pg_current_wal_flush_lsn() - '0/0')::bigint, (
  SELECT (flush_lsn - '0/0')::bigint FROM pg_stat_replication
  WHERE state = 'streaming' AND application_name NOT IN ('pg_basebackup', 'pg_receivewal')
    AND NOT EXISTS (SELECT FROM pg_replication_slots WHERE active_pid = pid AND slot_type = 'logical')
  ORDER BY flush_lsn DESC NULLS LAST LIMIT 1 OFFSET $2::int - 1
) FROM partitions WHERE id = $1;

-- name: read_partitions
-- All partitions, in order: from 0 on, without a gap.
SELECT
  id, epoch, nonce, state, state_since AS since, opened_nonce, waits_until, lacks, cursor_epoch, cursor_seq,
  cursor_digest, recorded_at, fence, lease_holder,
  EXISTS (SELECT FROM processes WHERE processes.id = lease_holder AND alive_until > clock_timestamp()) AS lease_live,
  version AS config_version, incarnation() AS incarnation, incarnation = incarnation() AS confirmed
FROM partitions JOIN config_versions ON partition = id ORDER BY id;

-- name: read_replica
-- The position of the WAL that this server has applied, or written if it is a primary; and the age in seconds of the
-- last transaction that it applied.
SELECT
  (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END - '0/0')::bigint,
  coalesce(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 0)::float8;

-- name: read_settings
-- The number of partitions.
SELECT partitions FROM settings;

-- name: release_lease
-- Release the lease, if it is still ours; to another worker, or to any.
-- $1 partition int  $2 fence bigint  $3 holder text
UPDATE partitions SET lease_holder = $3 WHERE id = $1 AND fence = $2;

-- name: renew_leases
-- Renew all leases of a worker. Returns a row for each living worker, and one for each partition; for those of this
-- worker also the tasks for which there is work. Ends another worker whose named session has ended, if that worker
-- has renewed its row since this session began: so a restart or a failover of Postgres ends no worker. Releases the
-- worker's leases of some partitions: if there are any, it counts as just started.
-- $1 holder text  $2 ttl_ms int  $3 version text  $4 number int  $5 released int[]
WITH renewed AS (
  INSERT INTO processes AS old (id, kind, version, number, alive_until)
  VALUES ($1, 'worker', $3, $4, clock_timestamp() + $2 * interval '1 ms')
  ON CONFLICT (id) DO UPDATE SET
    alive_since = CASE
      WHEN old.alive_until > clock_timestamp() AND cardinality($5::int[]) = 0 THEN old.alive_since ELSE
        clock_timestamp()
      END,
    alive_until = excluded.alive_until
), released AS (
  UPDATE partitions SET lease_holder = NULL WHERE id = ANY($5) AND lease_holder = $1
), ended AS (
  UPDATE processes SET alive_until = clock_timestamp()
  WHERE kind = 'worker' AND id <> $1 AND id ~ '@[0-9a-f]+$' AND alive_until > clock_timestamp()
    AND alive_until - $2 * interval '1 ms' > (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())
    AND NOT EXISTS (
      SELECT FROM pg_stat_activity WHERE application_name = 'scrip-worker' || substring(id FROM '@[0-9a-f]+$')
    )
  RETURNING id
), waiting AS (
  SELECT partition, kind FROM jobs JOIN workspaces USING (workspace)
  WHERE status = 'running' OR (status = 'cancelled' AND pending IS NOT NULL)
)
SELECT
  NULL AS id, NULL AS fence, id AS holder, extract(epoch FROM clock_timestamp() - alive_since)::float8 AS alive_s,
  extract(epoch FROM alive_until - clock_timestamp())::float8 AS left_s,
  NULL AS config_version, NULL AS confirmed, NULL AS due
FROM processes WHERE kind = 'worker' AND alive_until > clock_timestamp() AND id NOT IN (SELECT id FROM ended)
UNION ALL
SELECT
  id,
  fence,
  CASE WHEN lease_holder <> $1 OR id <> ALL($5) THEN lease_holder END,
  NULL,
  NULL,
  version,
  incarnation = incarnation(),
  CASE WHEN lease_holder = $1 THEN array_remove(ARRAY[
  CASE WHEN EXISTS (SELECT FROM rebuild_orders WHERE partition = id) THEN 'rebuilding' END,
  CASE
    WHEN
      EXISTS (SELECT FROM quarantine WHERE partition = id AND ordered IS NOT NULL AND resolution IS NULL)
      THEN 'settling'
  END,
  CASE WHEN EXISTS (SELECT FROM erasures WHERE partition = id AND user_id IS NOT NULL) THEN 'erasing' END,
  CASE WHEN EXISTS (SELECT FROM waiting WHERE partition = id AND kind = 'generate') THEN 'generating' END,
  CASE WHEN EXISTS (SELECT FROM waiting WHERE partition = id AND kind = 'reconcile') THEN 'reconciling' END,
  CASE WHEN EXISTS (SELECT FROM waiting WHERE partition = id AND kind = 'change') THEN 'changing' END,
  CASE
    WHEN
      EXISTS (SELECT FROM books JOIN workspaces w USING (workspace) WHERE w.partition = id AND archiving)
      THEN 'retaining'
  END,
  CASE WHEN EXISTS (SELECT FROM webhooks WHERE partition = id AND deleted_at IS NULL AND status = 'active')
    THEN 'sending' END
], NULL) ELSE '{}' END
FROM partitions JOIN config_versions ON partition = id;

-- name: take_lease
-- Take a free lease with a new fence: if the last holder still runs, it stores nothing more. The fence is random: a
-- sequence would repeat its numbers after a restore of Postgres to an earlier time.
-- $1 partition int  $2 holder text
UPDATE partitions SET fence = (random() * 9007199254740991)::bigint, lease_holder = $2
WHERE id = $1 AND (lease_holder IS NULL OR lease_holder = $2 OR NOT EXISTS (
  SELECT FROM processes WHERE processes.id = lease_holder AND alive_until > clock_timestamp()
))
RETURNING fence;

-- name: written_position
-- The position of the WAL behind every commit that is visible.
SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint;
