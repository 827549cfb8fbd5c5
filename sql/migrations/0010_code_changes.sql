-- Jobs that change many codes of a book (docs/decisions/0065-bulk-changes.md). A table of their own: the previous
-- version reads every row of `jobs`, and knows no such kind.

CREATE TABLE code_changes (
  job_id uuid PRIMARY KEY,
  workspace int NOT NULL REFERENCES workspaces (workspace),
  book int NOT NULL,
  -- What is done to which codes, as the API shows it (CodeChange in service/domain/code_change_requests.py).
  parameters jsonb NOT NULL CHECK (jsonb_typeof(parameters) = 'object'),
  status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'paused', 'done', 'cancelled', 'failed')),
  requested bigint NOT NULL CHECK (requested >= 0), -- codes to examine
  done bigint NOT NULL DEFAULT 0 CHECK (done BETWEEN 0 AND requested), -- codes examined
  changed bigint NOT NULL DEFAULT 0 CHECK (changed >= 0),
  unchanged bigint NOT NULL DEFAULT 0 CHECK (unchanged >= 0),
  refused bigint NOT NULL DEFAULT 0 CHECK (refused >= 0),
  -- The cursor: codes at this position and above are done.
  before bigint NOT NULL,
  -- The codes that scripts are deciding now, for the worker that follows one that died; null for none.
  pending bytea,
  errors jsonb NOT NULL DEFAULT '[]',
  started_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz,
  lease_token uuid,
  lease_until timestamptz,
  CHECK ((status IN ('running', 'paused')) = (finished_at IS NULL))
);
CREATE INDEX code_changes_of_workspace ON code_changes (workspace, job_id);
CREATE INDEX code_changes_to_take ON code_changes (job_id) WHERE status = 'running' OR pending IS NOT NULL;

-- What became of each code: some thousand in a row, packed (service/formats/change_results.py).
CREATE TABLE code_change_results (
  job_id uuid NOT NULL REFERENCES code_changes (job_id) ON DELETE CASCADE,
  position bigint NOT NULL, -- of the last of these codes
  lines bytea NOT NULL,
  PRIMARY KEY (job_id, position)
);

-- Jobs of both tables, as clients see them.
CREATE VIEW all_jobs AS
SELECT
  job_id, workspace, kind, parameters, status, requested, done, errors, started_at, finished_at,
  NULL::int AS book, NULL::bigint AS changed, NULL::bigint AS unchanged, NULL::bigint AS refused
FROM jobs
UNION ALL
SELECT
  job_id, workspace, 'change', parameters, status, requested, done, errors, started_at, finished_at,
  book, changed, unchanged, refused
FROM code_changes;
