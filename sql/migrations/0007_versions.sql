-- Rolling upgrades: processes of two versions on one database (docs/upgrading.md).

-- One row: the largest number of formats (service/formats/number.py) among the versions that migrated this database.
CREATE TABLE formats (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  number int NOT NULL CHECK (number > 0)
);

-- The scripts that a version's API processes call, as templates by name, the layout of the keys that they use, and when
-- the version last migrated this database. Any worker of this layout composes an epoch's texts from them. Only the owner
-- writes this table: what is in it, Redis runs.
CREATE TABLE script_versions (
  version text PRIMARY KEY,
  layout text NOT NULL,
  templates json NOT NULL,
  migrated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- A row for each API process and worker, renewed while it runs.
CREATE TABLE processes (
  id uuid PRIMARY KEY,
  kind text NOT NULL CHECK (kind IN ('api', 'worker')),
  version text NOT NULL,
  number int NOT NULL,
  seen_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
