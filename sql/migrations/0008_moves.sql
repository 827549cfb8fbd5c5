-- Moving workspaces between partitions (docs/decisions/0055).

-- The event that ended a workspace's copying, in the partition to which it moved last: a Redis that lacks the event lacks
-- some of the workspace. Null for a workspace that never moved.
ALTER TABLE workspaces ADD COLUMN moved_epoch bigint, ADD COLUMN moved_seq bigint;

-- The last move of each workspace. The workspace's own row says where it is; this one, what is left to do.
CREATE TABLE moves (
  workspace int PRIMARY KEY REFERENCES workspaces (workspace),
  source int NOT NULL REFERENCES partitions (id),
  target int NOT NULL REFERENCES partitions (id),
  -- `running`: a worker copies it; `clearing`: it has moved, and its old keys are being removed.
  state text NOT NULL DEFAULT 'ordered' CHECK (state IN ('ordered', 'running', 'clearing', 'done', 'failed')),
  reason text NOT NULL DEFAULT '',
  attempts int NOT NULL DEFAULT 0,
  total bigint NOT NULL DEFAULT 0, -- keys
  done bigint NOT NULL DEFAULT 0,
  closed_ms int,
  ordered_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz,
  CHECK (source <> target)
);
