-- Changing the number of partitions (docs/decisions/0059).

-- `partitions` is the number that is wanted. Partitions from that number on are emptied, and removed from the last one
-- on. The command that changes the number renews its claim while it runs.
ALTER TABLE settings ADD COLUMN resized_by uuid, ADD COLUMN resized_until timestamptz;

-- When a partition was removed. Its row stays: epoch and cursor go on from here if the partition is created again.
ALTER TABLE partitions ADD COLUMN removed_at timestamptz;
