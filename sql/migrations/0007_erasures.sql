-- Users to be deleted: a row holds what is to be replaced by the pseudonym until that is done, and then its id no more.
-- What was decided up to (epoch, seq), and made up to `position`, was the user's; what comes later is a new user's.
CREATE TABLE erasures (
  workspace int NOT NULL REFERENCES workspaces (workspace),
  partition int NOT NULL,
  user_id text COLLATE "C",
  pseudonym text COLLATE "C" NOT NULL,
  version bigint NOT NULL, -- of the configuration: the user's row went with it
  epoch bigint NOT NULL,
  seq bigint NOT NULL,
  position bigint NOT NULL, -- of codes
  started_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz,
  PRIMARY KEY (workspace, pseudonym),
  CHECK ((user_id IS NULL) = (finished_at IS NOT NULL))
);
CREATE UNIQUE INDEX erasures_user ON erasures (workspace, user_id) WHERE user_id IS NOT NULL;
CREATE INDEX erasures_pending ON erasures (partition, started_at) WHERE user_id IS NOT NULL;

CREATE INDEX unassignments_user ON unassignments (workspace, user_id);
