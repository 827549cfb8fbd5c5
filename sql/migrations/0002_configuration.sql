-- Configuration. Each row has the configuration version of its last change.

CREATE TABLE workspaces (
  workspace int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  workspace_id uuid NOT NULL UNIQUE,
  name text NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 100),
  mode text NOT NULL CHECK (mode IN ('live', 'test')),
  partition int NOT NULL REFERENCES partitions (id),
  currency text NOT NULL DEFAULT 'USD' CHECK (currency ~ '^[A-Z]{3}$'),
  coupons_per_order int NOT NULL DEFAULT 1 CHECK (coupons_per_order BETWEEN 1 AND 100),
  max_coupons int CHECK (max_coupons >= 1),
  gift_book_id uuid,
  idempotency_hours int NOT NULL DEFAULT 24 CHECK (idempotency_hours BETWEEN 1 AND 8760),
  version bigint NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  -- The difference of a test workspace's clock from the server's, for windows and locks.
  clock_offset_ms bigint NOT NULL DEFAULT 0,
  -- Limits of requests, misses and locks (docs/internals/decisions/0028-limits.md), as for keys and books; null for
  -- none.
  limits jsonb CHECK (jsonb_typeof(limits) = 'object'),
  time_zone text NOT NULL DEFAULT 'UTC', -- an IANA name: of the hours, days and weeks of reports
  storage_mib int NOT NULL DEFAULT 4096 CHECK (storage_mib >= 1), -- how much it may have in Redis; an operator sets it
  storage_used_mib int NOT NULL DEFAULT 0, -- what a worker counted last; changes without a version
  -- An operator of the service sets both: the most that limits of its keys may be, and since when all is refused.
  operator_limits jsonb CHECK (jsonb_typeof(operator_limits) = 'object'),
  suspended_at timestamptz,
  CHECK (mode = 'test' OR clock_offset_ms = 0)
);

CREATE TABLE keys (
  key_id uuid PRIMARY KEY,
  workspace int NOT NULL REFERENCES workspaces (workspace),
  position bigint GENERATED ALWAYS AS IDENTITY,
  name text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
  prefix text NOT NULL,
  secret_hash bytea NOT NULL UNIQUE CHECK (octet_length(secret_hash) = 32),
  scopes text[] NOT NULL CHECK (
    cardinality(scopes) >= 1 AND scopes <@ ARRAY['public', 'checkout', 'manage', 'operate']
  ),
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  revoked_at timestamptz,
  last_used_at timestamptz,
  -- The key that this one replaces. Both are valid for a while, so that clients can change over; never three.
  replaces uuid REFERENCES keys (key_id),
  limits jsonb CHECK (jsonb_typeof(limits) = 'object')
);
CREATE INDEX keys_of_workspace ON keys (workspace, position) WHERE revoked_at IS NULL;
CREATE INDEX keys_valid ON keys (workspace, coalesce(expires_at, 'infinity')) WHERE revoked_at IS NULL;
CREATE UNIQUE INDEX keys_replaced ON keys (replaces) WHERE replaces IS NOT NULL;

-- One row, incremented by each change of a key: processes poll it.
CREATE TABLE keys_version (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  version bigint NOT NULL
);
INSERT INTO keys_version (version) VALUES (0);

-- The version of each workspace's last change of a key: processes read the keys of these workspaces alone. Without a
-- foreign key, whose lock could wait for a change that waits for keys_version.
CREATE TABLE key_changes (
  workspace int PRIMARY KEY,
  version bigint NOT NULL
);
CREATE INDEX key_changes_version ON key_changes (version);

-- Sessions of the console, of a key or a person. Only a digest of the browser's secret is stored. A key's session has
-- its rights, and ends with it; a person's has `scopes`. Without a foreign key, as keys are never deleted.
CREATE TABLE sessions (
  session_hash bytea PRIMARY KEY CHECK (octet_length(session_hash) = 32),
  workspace int NOT NULL REFERENCES workspaces (workspace),
  key_id uuid,
  person text,
  scopes text[] CHECK (cardinality(scopes) >= 1 AND scopes <@ ARRAY['checkout', 'manage', 'operate']),
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  CHECK (num_nonnulls(key_id, person) = 1 AND (person IS NULL) = (scopes IS NULL))
);
CREATE INDEX sessions_of_owner ON sessions (workspace, coalesce(key_id::text, person), created_at);

CREATE TABLE books (
  workspace int NOT NULL REFERENCES workspaces (workspace),
  book int NOT NULL CHECK (book >= 1),
  book_id uuid NOT NULL UNIQUE,
  name text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
  description text NOT NULL CHECK (length(description) <= 2000),
  status text NOT NULL CHECK (status IN ('active', 'inactive', 'archived')),
  valid_from timestamptz,
  valid_until timestamptz,
  max_redemptions_per_code int CHECK (max_redemptions_per_code >= 1),
  max_redemptions_per_user int CHECK (max_redemptions_per_user >= 1),
  max_redemptions int CHECK (max_redemptions >= 1),
  max_codes_per_user int CHECK (max_codes_per_user >= 1),
  require_assignment boolean NOT NULL,
  require_lock boolean NOT NULL,
  lock_seconds int NOT NULL CHECK (lock_seconds >= 1),
  max_lock_seconds int NOT NULL,
  discount jsonb CHECK (
    jsonb_typeof(discount) = 'object' AND discount ? 'type' AND jsonb_typeof(discount -> 'currency') = 'string'
  ),
  code_pattern text NOT NULL CHECK (length(code_pattern) BETWEEN 4 AND 64),
  charset text NOT NULL CHECK (length(charset) BETWEEN 2 AND 36),
  total_codes int CHECK (total_codes BETWEEN 1 AND 10000000),
  low_stock_threshold int CHECK (low_stock_threshold >= 1),
  gift_book_id uuid,
  keep_free int CHECK (keep_free >= 1),
  tags text[] NOT NULL CHECK (cardinality(tags) <= 20),
  metadata json NOT NULL CHECK (json_typeof(metadata) = 'object'),
  created_by text CHECK (length(created_by) BETWEEN 1 AND 255),
  code_count bigint NOT NULL DEFAULT 0 CHECK (code_count >= 0),
  version bigint NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  -- The kind of a book that was made for one coupon, its first code; null for others.
  single text CHECK (single IN ('user-specific', 'time-specific', 'generated')),
  limits jsonb CHECK (jsonb_typeof(limits) = 'object'),
  public_reasons boolean NOT NULL DEFAULT false, -- whether a key with the scope `public` alone learns some reasons
  locks_ended bigint NOT NULL DEFAULT 0, -- the version of the change that last ended all its locks
  budgets jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(budgets) = 'array'),
  use_limits jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(use_limits) = 'array'),
  counted_from bigint NOT NULL DEFAULT 0, -- the version from which on Redis counts for these; 0 without any
  is_counted boolean NOT NULL DEFAULT true, -- whether Redis has counted what was redeemed before that
  own_currency text, -- of its discount, also of one that was taken away
  -- A book that ended long ago, by its window or archived by the merchant, left Redis for good; `archiving` while the
  -- worker removes it there. `last_counts`: what the script book_stats returned before.
  archived_at timestamptz,
  archiving boolean NOT NULL DEFAULT false,
  ended_at timestamptz GENERATED ALWAYS AS (
    least(valid_until, CASE status WHEN 'archived' THEN updated_at END)
  ) STORED,
  last_counts jsonb CHECK ((last_counts IS NULL) = (archived_at IS NULL)),
  -- All facts of the book are after this event, all codes after this version: the partition's cursor and configuration
  -- version when the book was created. The cursor is the last recorded event; the book's events are decided after the
  -- book's commit, so they are later, in the same epoch or a higher one. A Postgres that was restored, and a standby,
  -- have the book and the cursor of the same time.
  after_epoch bigint NOT NULL DEFAULT 0,
  after_seq bigint NOT NULL DEFAULT 0,
  after_version bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (workspace, book),
  CHECK (valid_until > valid_from),
  CHECK (lock_seconds <= max_lock_seconds)
);
CREATE INDEX books_ended ON books (ended_at) WHERE archived_at IS NULL;
CREATE INDEX books_archiving ON books (workspace, book) WHERE archiving;
CREATE INDEX books_changed ON books (version);
-- The list of usable books: expired ones are skipped within the index.
CREATE INDEX books_time_specific ON books (workspace, book, coalesce(valid_until, 'infinity'))
WHERE single = 'time-specific' AND status = 'active';
-- The books with `keepFree`: few among many, and read once a second.
CREATE INDEX books_kept ON books (workspace, book) WHERE keep_free IS NOT NULL AND status <> 'archived';
CREATE INDEX books_that_limit_misses ON books (workspace) WHERE limits ->> 'missesPerMinute' IS NOT NULL;
CREATE INDEX books_with_budgets ON books (workspace, book) WHERE counted_from > 0;

-- Ten million rows: wide columns first, so that none is padded, and no index without a reader. A foreign key to the
-- book would be a third of an insertion's cost, a counted repetition in a regular expression another third. Books are
-- never deleted, and each insertion also counts the codes in the book's row, in the same transaction.
CREATE TABLE codes (
  position bigint GENERATED ALWAYS AS IDENTITY,
  version bigint NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  workspace int NOT NULL,
  book int NOT NULL,
  partition smallint NOT NULL,
  active boolean NOT NULL DEFAULT true,
  code text NOT NULL COLLATE "C" CHECK (octet_length(code) BETWEEN 4 AND 64 AND code !~ '[^A-Z0-9_-]'),
  owner_id text CHECK (length(owner_id) BETWEEN 1 AND 100),
  max_redemptions int CHECK (max_redemptions >= 1),
  expires_at timestamptz,
  amount numeric CHECK (amount > 0), -- what a card was issued with; null in other books
  PRIMARY KEY (workspace, code)
);
CREATE INDEX codes_of_book ON codes (workspace, book, position);
CREATE INDEX codes_changed ON codes (partition, version);
-- A user's coupons are those assigned and those owned since upload.
CREATE INDEX codes_of_owner ON codes (workspace, owner_id, created_at, code) WHERE owner_id IS NOT NULL;

CREATE TABLE users (
  workspace int NOT NULL REFERENCES workspaces (workspace),
  user_id text NOT NULL COLLATE "C" CHECK (length(user_id) BETWEEN 1 AND 100),
  position bigint GENERATED ALWAYS AS IDENTITY,
  partition smallint NOT NULL,
  max_coupons int CHECK (max_coupons >= 1),
  metadata json NOT NULL CHECK (json_typeof(metadata) = 'object'),
  created_at timestamptz NOT NULL DEFAULT now(),
  version bigint NOT NULL,
  PRIMARY KEY (workspace, user_id)
);
CREATE INDEX users_of_workspace ON users (workspace, position);
CREATE INDEX users_changed ON users (partition, version);

-- Users to delete: a row has the user's id until the pseudonym has replaced it. Events up to (epoch, seq) and codes up
-- to `position` were the user's; later ones are a new user's.
CREATE TABLE erasures (
  workspace int NOT NULL REFERENCES workspaces (workspace),
  partition int NOT NULL,
  user_id text COLLATE "C",
  pseudonym text COLLATE "C" NOT NULL,
  version bigint NOT NULL, -- of the change that deleted the user's row
  epoch bigint NOT NULL,
  seq bigint NOT NULL,
  position bigint NOT NULL, -- of codes
  started_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz,
  -- The deletion's last event. A Redis that lost it still has the user's id, which no fact tells.
  done_epoch bigint,
  done_seq bigint,
  -- When the deletion was ordered last: notes of locks from before it, which come after it, are dropped.
  ordered_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace, pseudonym),
  CHECK ((user_id IS NULL) = (finished_at IS NOT NULL))
);
CREATE UNIQUE INDEX erasures_user ON erasures (workspace, user_id) WHERE user_id IS NOT NULL;
CREATE INDEX erasures_pending ON erasures (partition, workspace, started_at) WHERE user_id IS NOT NULL;
CREATE INDEX erasures_ordered ON erasures (workspace, ordered_at);

-- Work that takes longer than a request: the worker of the workspace's partition generates codes, compares a workspace,
-- or changes many codes of a book (docs/internals/decisions/0065-bulk-changes.md).
CREATE TABLE jobs (
  job_id uuid PRIMARY KEY,
  workspace int NOT NULL REFERENCES workspaces (workspace),
  kind text NOT NULL CHECK (kind IN ('generate', 'reconcile', 'change')),
  book int, -- null for a job of the whole workspace
  parameters jsonb NOT NULL CHECK (jsonb_typeof(parameters) = 'object'),
  status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'paused', 'done', 'cancelled', 'failed')),
  requested bigint NOT NULL CHECK (requested >= 0),
  done bigint NOT NULL DEFAULT 0 CHECK (done BETWEEN 0 AND requested),
  errors jsonb NOT NULL DEFAULT '[]',
  started_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz,
  turn_at timestamptz, -- when its last turn began

  -- Of a change: the results of the codes that match, and the cursor. Codes at this position and above are done.
  changed bigint NOT NULL DEFAULT 0 CHECK (changed >= 0),
  unchanged bigint NOT NULL DEFAULT 0 CHECK (unchanged >= 0),
  refused bigint NOT NULL DEFAULT 0 CHECK (refused >= 0),
  before bigint NOT NULL DEFAULT 0,
  -- The codes that scripts are deciding now, for the worker that follows one that died; null for none.
  pending bytea,

  CHECK ((kind = 'reconcile') = (book IS NULL)),
  CHECK (kind = 'change' OR status IN ('running', 'done', 'failed')),
  CHECK ((status IN ('running', 'paused')) = (finished_at IS NULL))
);
CREATE INDEX jobs_of_workspace ON jobs (workspace, job_id);
CREATE INDEX jobs_of_book ON jobs (workspace, book, job_id) WHERE changed > 0;
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_unfinished ON jobs (workspace, job_id) WHERE status IN ('running', 'paused') OR pending IS NOT NULL;

-- What became of each code of a change: some thousand in a row, packed (service/server/in_postgres/change_results.py).
CREATE TABLE job_results (
  job_id uuid NOT NULL REFERENCES jobs (job_id) ON DELETE CASCADE,
  position bigint NOT NULL, -- of the last of these codes
  lines bytea NOT NULL,
  PRIMARY KEY (job_id, position)
);

-- The users to whom a job assigns codes, each one code. Apart from the job's parameters, so that the deletion of a user
-- finds them.
CREATE TABLE job_users (
  job_id uuid NOT NULL REFERENCES jobs (job_id) ON DELETE CASCADE,
  number int NOT NULL, -- the place in the request, from 0
  workspace int NOT NULL,
  user_id text NOT NULL COLLATE "C" CHECK (length(user_id) BETWEEN 1 AND 100), -- or the pseudonym of a deleted user
  -- What became of it (service/server/in_postgres/change_results.py); null until it is decided.
  result text CHECK (result IN ('changed', 'unchanged', 'refused')),
  code text COLLATE "C", -- that the user has got, or had before
  reason text, -- why it was refused
  PRIMARY KEY (job_id, number)
);
CREATE INDEX job_users_of_user ON job_users (workspace, user_id);
