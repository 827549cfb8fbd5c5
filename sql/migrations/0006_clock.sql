-- How far a test workspace's clock, which windows and locks go by, is from the server's. A live workspace has no other.
ALTER TABLE workspaces
    ADD COLUMN clock_offset_ms bigint NOT NULL DEFAULT 0,
    ADD CHECK (mode = 'test' OR clock_offset_ms = 0);
