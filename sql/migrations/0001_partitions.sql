-- The partitions of the traffic: whose turn it is to write, which Redis is verified, and how far the record goes.

-- Global and never used twice: an epoch names a verified Redis, a fence the holder of a lease.
CREATE SEQUENCE epochs AS bigint;
CREATE SEQUENCE fences AS bigint;

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

  -- The lease. Whoever takes it draws a new fence, and nothing is written under an older one.
  fence bigint NOT NULL DEFAULT 0,
  lease_holder text,
  lease_until timestamptz,

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
