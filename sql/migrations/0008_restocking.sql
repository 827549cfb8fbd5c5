-- The books whose stock is kept up: few among many, and looked for once a second.
CREATE INDEX books_kept ON books (workspace, book) WHERE keep_free IS NOT NULL AND status <> 'archived';
