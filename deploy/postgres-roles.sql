-- Roles for Scrip's processes, each with what it needs. Run as the owner of the tables after `scrip migrate`, and again
-- after each later one; it may be repeated. Who may log in is the installation's matter:
--   CREATE ROLE scrip_api LOGIN PASSWORD '…'; CREATE ROLE scrip_worker LOGIN PASSWORD '…';
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f deploy/postgres-roles.sql
-- `scrip migrate`, `scrip workspaces` and `scrip keys` run as the owner. A test makes every table be named here.

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM scrip_api, scrip_worker;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM scrip_api, scrip_worker;
GRANT USAGE ON SCHEMA public TO scrip_api, scrip_worker;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO scrip_api, scrip_worker;

-- Secrets' digests are read by the API alone.
REVOKE SELECT ON keys, sessions FROM scrip_worker;

-- The API writes what the merchant says, and never what was decided.
GRANT INSERT, UPDATE ON books, codes, users, erasures TO scrip_api;
GRANT INSERT ON keys, jobs TO scrip_api;
GRANT UPDATE (revoked_at, expires_at, last_used_at) ON keys TO scrip_api;
GRANT UPDATE ON workspaces, config_versions, keys_version TO scrip_api;
GRANT DELETE ON users TO scrip_api;
GRANT INSERT, DELETE ON sessions TO scrip_api;
GRANT INSERT, UPDATE ON webhooks, webhook_deliveries TO scrip_api;

-- The worker writes what was decided, and of what the merchant says the codes that it makes.
GRANT INSERT ON
  assignments, unassignments, redemptions, rollbacks, order_uses, single_uses, idempotency_keys, quarantine, stock_notices,
  closed_epochs, recoveries, rebuild_orders, settings, partitions, config_versions, codes, jobs, reconciling, reconciled,
  failing_tasks
  TO scrip_worker;
GRANT UPDATE ON
  partitions, config_versions, jobs, recoveries, rebuild_orders, idempotency_keys, reconciling, reconciled, failing_tasks
  TO scrip_worker;
GRANT UPDATE (code_count) ON books TO scrip_worker;
GRANT UPDATE (unassigned_at) ON assignments TO scrip_worker;
GRANT DELETE ON
  order_uses, single_uses, idempotency_keys, rebuild_orders, jobs, stock_notices, failing_tasks TO scrip_worker;
-- A user who is deleted has a pseudonym put in the user's place; nothing else of a fact may change.
GRANT UPDATE (user_id, ip, user_agent) ON assignments, unassignments, redemptions, rollbacks TO scrip_worker;
GRANT UPDATE (owner_id) ON codes TO scrip_worker;
GRANT UPDATE (d, r) ON quarantine TO scrip_worker;
GRANT UPDATE ON erasures TO scrip_worker;
-- It tells webhooks what is recorded, and switches them off.
GRANT UPDATE, DELETE ON webhooks TO scrip_worker;
GRANT INSERT, UPDATE, DELETE ON webhook_deliveries TO scrip_worker;
GRANT USAGE, SELECT, UPDATE ON SEQUENCE epochs TO scrip_worker;

-- What is changed is said in the audit, by whoever changes it; a trigger lets nobody change that but for deleted users.
GRANT INSERT ON audit TO scrip_api, scrip_worker;
GRANT UPDATE (subject, before, after, ip, user_agent) ON audit TO scrip_worker;

-- The one thing that the worker makes: a month's partition of the redemptions, in the owner's name.
ALTER FUNCTION ensure_fact_partitions(int) SECURITY DEFINER SET search_path = public, pg_temp;
REVOKE EXECUTE ON FUNCTION ensure_fact_partitions(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_fact_partitions(int) TO scrip_worker;
