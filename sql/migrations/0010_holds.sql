-- The history of a code's locks, for explanation alone (docs/decisions/0071-past-holds.md): an API process notes what
-- scripts answered, if the workspace wishes so. A note may be there twice, or be missing.
ALTER TABLE workspaces ADD COLUMN lock_history boolean NOT NULL DEFAULT false;

CREATE TABLE lock_notes (
  workspace int NOT NULL,
  code text COLLATE "C" NOT NULL,
  at timestamptz NOT NULL, -- of the answer, by the workspace's clock
  lock_digest bigint NOT NULL, -- names the lock without its token, which is a secret
  -- Of a lock or an extension: the holder, and the deadline. Of a release: the only user who could release it, if any, and
  -- no deadline. Or the pseudonym of a deleted user.
  user_id text COLLATE "C",
  order_id text COLLATE "C",
  until timestamptz,
  noted_at timestamptz NOT NULL DEFAULT now(),
  CHECK (until IS NULL OR user_id IS NOT NULL)
);
CREATE INDEX lock_notes_of_code ON lock_notes (workspace, code, at);
CREATE INDEX lock_notes_of_user ON lock_notes (workspace, user_id) WHERE user_id IS NOT NULL;
-- All notes of a transaction have one time, so this index is small.
CREATE INDEX lock_notes_by_time ON lock_notes (noted_at);

-- When the deletion of a user was ordered last: notes from before it, which come after it, are dropped.
ALTER TABLE erasures ADD COLUMN ordered_at timestamptz NOT NULL DEFAULT now();
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX erasures_ordered ON erasures (workspace, ordered_at);
