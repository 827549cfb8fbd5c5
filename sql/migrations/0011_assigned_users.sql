-- The users to whom a job assigns codes, each one code (docs/decisions/0065-bulk-changes.md). Apart from the job's
-- parameters, so that the deletion of a user finds them.
CREATE TABLE code_change_users (
  job_id uuid NOT NULL REFERENCES code_changes (job_id) ON DELETE CASCADE,
  number int NOT NULL, -- the place in the request, from 0
  workspace int NOT NULL,
  user_id text NOT NULL COLLATE "C" CHECK (length(user_id) BETWEEN 1 AND 100), -- or the pseudonym of a deleted user
  -- What became of it (service/formats/change_results.py); null until it is decided.
  result text CHECK (result IN ('changed', 'unchanged', 'refused')),
  code text COLLATE "C", -- that the user has got, or had before
  reason text, -- why it was refused
  PRIMARY KEY (job_id, number)
);
CREATE INDEX code_change_users_of_user ON code_change_users (workspace, user_id);
