-- How often and how much may be asked, missed and locked (docs/decisions/0028-limits.md); null says nothing.
ALTER TABLE workspaces ADD COLUMN limits jsonb CHECK (jsonb_typeof(limits) = 'object');
ALTER TABLE keys ADD COLUMN limits jsonb CHECK (jsonb_typeof(limits) = 'object');
ALTER TABLE books ADD COLUMN limits jsonb CHECK (jsonb_typeof(limits) = 'object');
CREATE INDEX books_that_limit_misses ON books (workspace) WHERE limits ->> 'missesPerMinute' IS NOT NULL;
