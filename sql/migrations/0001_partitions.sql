-- The partitions of the traffic: whose turn it is to write, which Redis is verified, and how far the record goes.

-- Global and never used twice: an epoch names a verified Redis. Fences, which name the holder of a lease, are random: a
-- sequence would give the same ones again after a restore to an earlier time.
CREATE SEQUENCE epochs AS bigint;

-- One row, made with the first partitions and never changed: a workspace's partition depends on their number.
CREATE TABLE settings (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  partitions int NOT NULL CHECK (partitions BETWEEN 1 AND 1024)
);

CREATE TABLE partitions (
  id int PRIMARY KEY CHECK (id >= 0),

  -- The newest epoch, drawn by whoever holds the lease; `open` once its Redis holds everything.
  epoch bigint NOT NULL DEFAULT 0,
  nonce text NOT NULL DEFAULT '',
  state text NOT NULL DEFAULT 'closed' CHECK (state IN ('closed', 'open')),

  -- The cursor: the last event that is recorded, and its entry's digest (the anchor; null before the first epoch).
  -- While a new epoch is being opened the cursor is still in an older one, whose last events are being recorded.
  cursor_epoch bigint NOT NULL DEFAULT 0,
  cursor_seq bigint NOT NULL DEFAULT 0,
  cursor_digest bytea,
  recorded_at timestamptz,
  recorded_events bigint NOT NULL DEFAULT 0,

  -- The lease. Its new holder draws a new fence, and nothing is written under an older one.
  fence bigint NOT NULL DEFAULT 0,
  lease_holder text,
  lease_until timestamptz,

  -- The Postgres (`incarnation()` below) in which a worker has seen that Redis holds no configuration which this Postgres
  -- doesn't know. In any other nothing is configured: its versions may be given again.
  incarnation text NOT NULL DEFAULT '',

  CHECK (cursor_epoch <= epoch),
  CHECK (state = 'closed' OR cursor_epoch = epoch)
) WITH (fillfactor = 50);

-- The last configuration change of each partition; its row lock makes the numbers gapless. Not in `partitions`, where a
-- long upload would make the recording of traffic wait.
CREATE TABLE config_versions (
  partition int PRIMARY KEY,
  version bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- Where the record of an epoch ended. An event past it was lost with its Redis; it was never recorded.
CREATE TABLE closed_epochs (
  partition int,
  epoch bigint,
  last_seq bigint NOT NULL,
  closed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (partition, epoch)
);

-- Which Postgres it is that runs just now: another value after each start, and after its tables were made anew, so also after
-- any restore to an earlier time.
CREATE FUNCTION incarnation() RETURNS text STABLE LANGUAGE sql AS $$
  SELECT extract(epoch FROM pg_postmaster_start_time()) || ' ' || oid || ' ' || pg_relation_filenode('config_versions')
  FROM pg_database WHERE datname = current_database()
$$;

-- How each opening came to a whole Redis, and how far it is.
CREATE TABLE recoveries (
  partition int,
  epoch bigint,
  kind text NOT NULL CHECK (kind IN ('tail', 'whole')),
  reason text NOT NULL,
  total bigint NOT NULL,
  done bigint NOT NULL DEFAULT 0,
  started_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz,
  -- What tells the entry by which a mending is entered from any other of its epoch's number.
  nonce text NOT NULL DEFAULT '',
  PRIMARY KEY (partition, epoch)
);

-- An operator wants a partition's Redis rebuilt whole; with `accept_loss` also where events are missing that were never
-- recorded.
CREATE TABLE rebuild_orders (
  partition int PRIMARY KEY,
  accept_loss boolean NOT NULL,
  ordered_at timestamptz NOT NULL DEFAULT now(),
  reason text NOT NULL DEFAULT ''
);

-- Tasks of the worker that fail and are begun anew, by partition: a row while that is so (docs/decisions/0030).
CREATE TABLE failing_tasks (
  partition int,
  task text,
  failures bigint NOT NULL CHECK (failures > 0),
  reason text NOT NULL, -- the last error's type, and nothing of what it was about
  since timestamptz NOT NULL DEFAULT now(),
  last_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (partition, task)
);
