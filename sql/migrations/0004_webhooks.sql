-- Webhooks and their deliveries.

-- A UUIDv7 of now; Postgres has one of its own only since 18.
CREATE FUNCTION new_uuid7() RETURNS uuid VOLATILE LANGUAGE sql AS $$
  SELECT encode(set_bit(set_bit(overlay(
    uuid_send(gen_random_uuid())
    PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
    FROM 1 FOR 6
  ), 52, 1), 53, 1), 'hex')::uuid
$$;

CREATE TABLE webhooks (
  webhook int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  webhook_id uuid NOT NULL UNIQUE DEFAULT new_uuid7(),
  workspace int NOT NULL REFERENCES workspaces (workspace),
  partition int NOT NULL,
  url text NOT NULL CHECK (length(url) <= 2048),
  events text[] NOT NULL CHECK (cardinality(events) >= 1),
  description text NOT NULL CHECK (length(description) <= 2000),
  -- `reason`: why the sender switched it off; null if an operator did, or if it is on.
  status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'inactive')),
  reason text CHECK (reason IN ('failing', 'gone')),
  inactive_since timestamptz,
  -- The time since which every attempt has failed.
  failing_since timestamptz,
  -- The signing secret, and the previous one with its end.
  secret bytea NOT NULL,
  old_secret bytea,
  old_secret_until timestamptz,
  -- The partition's last event of which this webhook's deliveries were made.
  epoch bigint NOT NULL,
  seq bigint NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  deleted_at timestamptz,
  CHECK ((status = 'inactive') = (inactive_since IS NOT NULL)),
  CHECK (status = 'inactive' OR reason IS NULL)
) WITH (fillfactor = 50);
CREATE INDEX webhooks_of_workspace ON webhooks (workspace, webhook) WHERE deleted_at IS NULL;
CREATE INDEX webhooks_active ON webhooks (partition) WHERE deleted_at IS NULL AND status = 'active';

-- One event for one webhook. Its content is read from the facts when it is sent, so the deletion of a user covers it;
-- `data` is for events in no other table. Deliveries of one `subject` (a coupon, a book) are sent one after the other.
CREATE TABLE webhook_deliveries (
  position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  delivery_id uuid NOT NULL UNIQUE DEFAULT new_uuid7(),
  webhook int NOT NULL,
  event_id text COLLATE "C" NOT NULL,
  event text NOT NULL,
  happened_at timestamptz NOT NULL,
  epoch bigint,
  seq bigint,
  subject text COLLATE "C",
  about uuid, -- the redemption, or the job
  data json,
  status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'failed')),
  attempts int NOT NULL DEFAULT 0,
  first_attempt_at timestamptz,
  last_attempt_at timestamptz,
  next_attempt_at timestamptz NOT NULL DEFAULT now(),
  last_status int,
  last_error text,
  attempt_log jsonb NOT NULL DEFAULT '[]', -- the newest attempts, in order
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (webhook, event_id)
) WITH (fillfactor = 70);
CREATE INDEX webhook_deliveries_of_webhook ON webhook_deliveries (webhook, position);
CREATE INDEX webhook_deliveries_pending ON webhook_deliveries (webhook, position) WHERE status = 'pending';
CREATE INDEX webhook_deliveries_in_order ON webhook_deliveries (webhook, subject, position) WHERE status = 'pending';

-- Make deliveries to the webhooks of a workspace with this event, in the event's transaction. Not for events of coupons
-- and books, which the sender reads from the facts.
CREATE FUNCTION tell_webhooks(told_workspace int, told_event text, told_about uuid, told_data json) RETURNS int
VOLATILE LANGUAGE sql AS $$
  WITH one AS (SELECT 'evt_' || new_uuid7() AS event_id), told AS (
    INSERT INTO webhook_deliveries (webhook, event_id, event, happened_at, about, data)
    SELECT webhook, event_id, told_event, clock_timestamp(), told_about, told_data FROM webhooks CROSS JOIN one
    WHERE workspace = told_workspace AND deleted_at IS NULL AND status = 'active' AND told_event = ANY(events)
    RETURNING 1
  )
  SELECT count(*)::int FROM told
$$;
