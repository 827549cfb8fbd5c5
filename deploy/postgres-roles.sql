-- Grant each process of Scrip the privileges that it needs. Run this file as the owner of the tables after every
-- `scrip migrate`; running it again is safe. Create the login roles before `scrip migrate`, which bounds their sessions:
--   CREATE ROLE scrip_api LOGIN PASSWORD '…'; CREATE ROLE scrip_worker LOGIN PASSWORD '…';
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f deploy/postgres-roles.sql
-- Run `scrip migrate`, `scrip workspaces` and `scrip keys` as the owner, who alone may drop partitions and writes
-- fact_months. A test fails if a table is missing here, and processes check at their start that they have these rights.
-- One transaction, so that running processes keep their rights meanwhile.
BEGIN;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON
  assignments, audit, backlog_samples, balance_changes, books, card_sums, closed_epochs, codes, config_versions,
  erasures, fact_months, facts, failing_tasks, formats, idempotency_keys, job_results, job_users, jobs,
  key_changes, keys, keys_version, migrations, open_assignments, order_uses, partitions, past_redemptions, processes,
  quarantine, rebuild_orders, reconciled, reconciling, recoveries, redemptions, refused_requests, report_sums,
  report_users, rollbacks, sampled_steps, script_versions, sessions, settings, single_uses, stock_notices,
  traffic_samples, unassignments, users, webhook_deliveries, webhooks, workspaces
  FROM scrip_api, scrip_worker;
REVOKE ALL ON SEQUENCE epochs FROM scrip_api, scrip_worker;
GRANT USAGE ON SCHEMA public TO scrip_api, scrip_worker;
GRANT SELECT ON
  assignments, audit, backlog_samples, balance_changes, books, card_sums, closed_epochs, codes, config_versions,
  erasures, fact_months, facts, failing_tasks, formats, idempotency_keys, job_results, job_users, jobs, key_changes,
  keys_version, migrations, open_assignments, order_uses, partitions, past_redemptions, processes, quarantine,
  rebuild_orders, reconciled, reconciling, recoveries, redemptions, refused_requests, report_sums, report_users,
  rollbacks, sampled_steps, script_versions, settings, single_uses, stock_notices, traffic_samples, unassignments,
  users, webhook_deliveries, webhooks, workspaces
  TO scrip_api, scrip_worker;

-- Only the API may read digests of secrets.
GRANT SELECT ON keys, sessions TO scrip_api;

-- The API writes configuration, and no facts.
GRANT INSERT, UPDATE ON books, codes, users, erasures TO scrip_api;
GRANT INSERT, UPDATE ON card_sums TO scrip_api; -- what it issues
GRANT INSERT ON keys, jobs, job_users TO scrip_api;
GRANT UPDATE (status, finished_at) ON jobs TO scrip_api;
GRANT UPDATE (ordered, failure) ON quarantine TO scrip_api;
GRANT UPDATE (revoked_at, expires_at, last_used_at, limits) ON keys TO scrip_api;
GRANT UPDATE ON workspaces, config_versions, keys_version TO scrip_api;
GRANT INSERT, UPDATE ON key_changes TO scrip_api;
GRANT DELETE ON users TO scrip_api;
GRANT INSERT, DELETE ON sessions TO scrip_api;
GRANT INSERT, UPDATE ON webhooks, webhook_deliveries TO scrip_api;
GRANT INSERT, UPDATE ON traffic_samples TO scrip_api;
GRANT INSERT ON sampled_steps, refused_requests TO scrip_api;

-- The worker writes facts; of the configuration, it writes only codes: generated ones, and changes of many at once.
GRANT INSERT ON
  assignments, unassignments, redemptions, rollbacks, balance_changes, open_assignments, order_uses, single_uses,
  idempotency_keys, quarantine, stock_notices, closed_epochs, recoveries, rebuild_orders, config_versions, codes,
  jobs, job_results, reconciling, reconciled, failing_tasks, report_sums, report_users, card_sums
  TO scrip_worker;
GRANT UPDATE ON
  partitions, config_versions, jobs, job_users, recoveries, rebuild_orders, idempotency_keys, reconciling,
  reconciled, failing_tasks, report_sums, report_users, card_sums
  TO scrip_worker;
GRANT UPDATE (code_count, archived_at, archiving, last_counts, version, status, updated_at) ON books TO scrip_worker;
GRANT DELETE ON
  open_assignments, order_uses, single_uses, idempotency_keys, rebuild_orders, jobs, stock_notices,
  failing_tasks, report_users
  TO scrip_worker;
-- Deleting a user replaces the user by a pseudonym. No other column of a fact may change.
GRANT UPDATE (user_id, ip, user_agent) ON assignments, unassignments, redemptions, rollbacks TO scrip_worker;
GRANT UPDATE (user_id, order_id) ON open_assignments TO scrip_worker;
GRANT UPDATE (owner_id, version, active, expires_at) ON codes TO scrip_worker;
GRANT UPDATE (d, r, ordered, failure, resolution, resolved_at) ON quarantine TO scrip_worker;
GRANT UPDATE ON erasures TO scrip_worker;
GRANT UPDATE (storage_used_mib) ON workspaces TO scrip_worker;
GRANT INSERT, UPDATE ON backlog_samples TO scrip_worker;
GRANT DELETE ON backlog_samples, traffic_samples, sampled_steps, refused_requests TO scrip_worker;
-- The worker delivers webhooks and switches off those that fail.
GRANT UPDATE, DELETE ON webhooks TO scrip_worker;
GRANT INSERT, UPDATE, DELETE ON webhook_deliveries TO scrip_worker;
GRANT USAGE, SELECT, UPDATE ON SEQUENCE epochs TO scrip_worker;

-- Each process stores that it runs. Only the owner writes settings, formats and script_versions: Redis runs what is in
-- there, and the number of partitions never changes.
GRANT INSERT, UPDATE, DELETE ON processes TO scrip_api, scrip_worker;

-- Each process logs its own changes. A trigger rejects updates of the log except for deleted users.
GRANT INSERT ON audit TO scrip_api, scrip_worker;
GRANT UPDATE (subject, before, after, ip, user_agent) ON audit TO scrip_worker;

-- The worker creates the monthly partitions of the facts, with the rights of the owner.
ALTER FUNCTION ensure_fact_partitions(int) SECURITY DEFINER SET search_path = public, pg_temp;
REVOKE EXECUTE ON FUNCTION ensure_fact_partitions(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_fact_partitions(int) TO scrip_worker;
-- The same for statistics, which only the owner may refresh.
ALTER FUNCTION analyze_grown_tables(bigint, int) SECURITY DEFINER SET search_path = public, pg_temp;
REVOKE EXECUTE ON FUNCTION analyze_grown_tables(bigint, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION analyze_grown_tables(bigint, int) TO scrip_worker;
-- The same for the months of old facts (SCRIP_FACT_DAYS), which only the owner may drop.
ALTER FUNCTION drop_old_months(int) SECURITY DEFINER SET search_path = public, pg_temp;
REVOKE EXECUTE ON FUNCTION drop_old_months(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION drop_old_months(int) TO scrip_worker;

COMMIT;
