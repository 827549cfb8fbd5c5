-- Partitions: leases, epochs, cursors and recoveries; the processes that run.

-- Global, so that no epoch is used twice. Fences, which identify a lease, are random: after a restore to an earlier
-- time, a sequence would repeat its numbers.
CREATE SEQUENCE epochs AS bigint;

-- One row, written once: a workspace's partition depends on the number of partitions.
CREATE TABLE settings (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  partitions int NOT NULL CHECK (partitions BETWEEN 1 AND 1024),
  facts_from timestamptz -- older facts were dropped; null: none were
);

CREATE TABLE partitions (
  id int PRIMARY KEY CHECK (id >= 0),

  -- The newest epoch; `open` once its Redis holds everything.
  epoch bigint NOT NULL DEFAULT 0,
  nonce text NOT NULL DEFAULT '',
  state text NOT NULL DEFAULT 'closed' CHECK (state IN ('closed', 'open')),

  -- The nonce of the last epoch that was open; and until when the partition stays closed, because processes without
  -- Postgres may still use that epoch on its server.
  opened_nonce text NOT NULL DEFAULT '',
  waits_until timestamptz,

  -- What Redis has and this Postgres lacks, in words, while the partition stays closed for that reason.
  lacks text,

  -- The cursor: the last recorded event, and its entry's digest (the anchor; null before the first epoch). During an
  -- opening the cursor is still in an older epoch, whose last events are being recorded.
  cursor_epoch bigint NOT NULL DEFAULT 0,
  cursor_seq bigint NOT NULL DEFAULT 0,
  cursor_digest bytea,
  recorded_at timestamptz,
  recorded_events bigint NOT NULL DEFAULT 0,

  -- The lease: it lives while its holder does (processes, below). A new holder draws a new fence; writes under an older
  -- one fail.
  fence bigint NOT NULL DEFAULT 0,
  lease_holder text,

  -- The Postgres (`incarnation()` below) in which a worker has checked that Redis holds no configuration that this
  -- Postgres lacks. Any other takes no configuration, as it might repeat version numbers.
  incarnation text NOT NULL DEFAULT '',


  -- Since when it is open or closed; null if that has never changed. A trigger sets it.
  state_since timestamptz,

  CHECK (cursor_epoch <= epoch),
  CHECK (state = 'closed' OR cursor_epoch = epoch),
  CHECK (state = 'closed' OR lacks IS NULL)
) WITH (fillfactor = 50);

CREATE FUNCTION note_state_since() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.state_since := clock_timestamp();
  RETURN NEW;
END $$;
CREATE TRIGGER note_state_since BEFORE UPDATE OF state ON partitions
FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION note_state_since();

-- The processes that run, each with the version of its program and the number of its formats (docs/upgrading.md). One
-- update of its row renews all leases of a worker, without waiting for a partition's row.
CREATE TABLE processes (
  id text PRIMARY KEY,
  kind text NOT NULL CHECK (kind IN ('api', 'worker')),
  version text NOT NULL,
  number int NOT NULL,
  -- Since when the row was never expired: a worker that comes and goes gets no leases from others.
  alive_since timestamptz NOT NULL DEFAULT clock_timestamp(),
  alive_until timestamptz NOT NULL,
  -- What the process has measured and may open, for `scrip doctor` and metrics: by how many seconds its clock is ahead
  -- of this server's, its connections to Postgres, and those that an API accepts from clients. NULL: not stored yet.
  clock_ahead_s float8,
  connections int,
  clients int
) WITH (fillfactor = 50);

-- Each partition's newest configuration version; its row lock makes the numbers gapless. A table of its own, as a long
-- upload must not block the recording of traffic.
CREATE TABLE config_versions (
  partition int PRIMARY KEY,
  version bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- The last recorded event of a closed epoch. Later events were lost with their Redis.
CREATE TABLE closed_epochs (
  partition int,
  epoch bigint,
  last_seq bigint NOT NULL,
  closed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (partition, epoch)
);

-- Identifies the running Postgres: a new value after each start, and after the tables were created anew, so also after
-- any restore to an earlier time.
CREATE FUNCTION incarnation() RETURNS text STABLE LANGUAGE sql AS $$
  SELECT extract(epoch FROM pg_postmaster_start_time()) || ' ' || oid || ' ' || pg_relation_filenode('config_versions')
  FROM pg_database WHERE datname = current_database()
$$;

-- How each opening restored Redis, and its progress.
CREATE TABLE recoveries (
  partition int,
  epoch bigint,
  kind text NOT NULL CHECK (kind IN ('tail', 'whole')),
  reason text NOT NULL,
  total bigint NOT NULL,
  done bigint NOT NULL DEFAULT 0,
  started_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz,
  -- Distinguishes the entry that ends this recovery from others with its epoch and number.
  nonce text NOT NULL DEFAULT '',
  PRIMARY KEY (partition, epoch)
);

-- Orders to rebuild a partition's Redis. `surplus` says what becomes of what Redis has and this Postgres lacks; without
-- it such a Redis is not rebuilt. With `old_is_off` an operator says that the server of the last open epoch no longer
-- runs.
CREATE TABLE rebuild_orders (
  partition int PRIMARY KEY,
  surplus text CHECK (surplus IN ('apply', 'discard')),
  old_is_off boolean NOT NULL DEFAULT false,
  ordered_at timestamptz NOT NULL DEFAULT now(),
  reason text NOT NULL DEFAULT ''
);

-- The worker's failing tasks, a row each while they fail (docs/internals/decisions/0030), and the things that tasks
-- have set aside (docs/internals/decisions/0095).
CREATE TABLE failing_tasks (
  partition int,
  task text,
  failures bigint NOT NULL CHECK (failures > 0),
  reason text NOT NULL, -- the last error's type, without its details
  since timestamptz NOT NULL DEFAULT now(),
  last_at timestamptz NOT NULL DEFAULT now(),
  thing text COLLATE "C" DEFAULT '', -- '' is the whole task
  workspace int, -- of the thing
  next_try_at timestamptz, -- until then the task leaves the thing out
  PRIMARY KEY (partition, task, thing),
  CHECK ((thing = '') = (next_try_at IS NULL))
);

-- Whether a task of a partition leaves a thing out for now.
CREATE FUNCTION is_set_aside(of_partition int, of_task text, named text) RETURNS boolean STABLE LANGUAGE sql AS $$
  SELECT EXISTS (
    SELECT FROM failing_tasks
    WHERE partition = of_partition AND task = of_task AND thing = named AND next_try_at > clock_timestamp()
  )
$$;
