-- The console's history of an hour and a day (docs/decisions/0068-history.md). Each table has rows of two steps: of 10
-- seconds, which are kept for an hour, and of 300 seconds, kept for a day. `at` is the beginning of a step. The fill
-- factor leaves room for updates in the same page: a row of 300 seconds is updated thirty times.

-- Steps in which an API process counted. A step without a row is a gap, not zero.
CREATE TABLE sampled_steps (
  step_s int CHECK (step_s IN (10, 300)),
  at timestamptz,
  PRIMARY KEY (step_s, at)
);

-- Responses to a workspace's requests, summed over all API processes. No row: none.
CREATE TABLE traffic_samples (
  workspace int,
  step_s int CHECK (step_s IN (10, 300)),
  at timestamptz,
  -- Successful operations and refusals by name, such as {"redeemed": 20, "coupon_locked": 3}.
  counts jsonb NOT NULL CHECK (jsonb_typeof(counts) = 'object'),
  -- Response times: how many took at most so many µs, and more than the next smaller bound (service/common/durations.py).
  times jsonb NOT NULL CHECK (jsonb_typeof(times) = 'object'),
  PRIMARY KEY (workspace, step_s, at)
) WITH (fillfactor = 50);
CREATE INDEX traffic_samples_by_time ON traffic_samples (step_s, at);

-- The highest number of unrecorded events of a partition, and the highest age of the oldest of them.
CREATE TABLE backlog_samples (
  partition int,
  step_s int CHECK (step_s IN (10, 300)),
  at timestamptz,
  events bigint NOT NULL CHECK (events >= 0),
  oldest_ms bigint NOT NULL CHECK (oldest_ms >= 0),
  PRIMARY KEY (partition, step_s, at)
) WITH (fillfactor = 50);
CREATE INDEX backlog_samples_by_time ON backlog_samples (step_s, at);

-- The sums of two objects of counts, name by name.
CREATE FUNCTION add_counts(one jsonb, other jsonb) RETURNS jsonb IMMUTABLE LANGUAGE sql AS $$
  SELECT coalesce(jsonb_object_agg(key, total), '{}') FROM (
    SELECT key, sum(value::bigint) AS total
    FROM (SELECT * FROM jsonb_each_text(one) UNION ALL SELECT * FROM jsonb_each_text(other)) AS counted
    GROUP BY key
  ) AS totals
$$;

-- Since when a partition is open or closed; null if that has never changed. A trigger sets it, whatever changes the state.
ALTER TABLE partitions ADD COLUMN state_since timestamptz;
CREATE FUNCTION note_state_since() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.state_since := clock_timestamp();
  RETURN NEW;
END $$;
CREATE TRIGGER note_state_since BEFORE UPDATE OF state ON partitions
FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION note_state_since();
