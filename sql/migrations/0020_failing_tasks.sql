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
