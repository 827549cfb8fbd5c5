-- The key that another takes the place of. Both are good for a while, so that clients can change over; never three.
ALTER TABLE keys ADD COLUMN replaces uuid REFERENCES keys (key_id);
CREATE UNIQUE INDEX keys_replaced ON keys (replaces) WHERE replaces IS NOT NULL;
