-- Lists of columns that several statements select, as {name}: so that a column that a newer version has added to a
-- table or a view reaches no row of this version (docs/upgrading.md).

-- columns: book
-- A book with its workspace, of books JOIN workspaces.
workspace, partition, book, book_id, books.version, books.name, description, status, valid_from, valid_until,
{settings}, discount, code_pattern, charset, total_codes, books.gift_book_id, tags, metadata, created_by,
books.created_at, updated_at, books.limits, locks_ended, own_currency, budgets, use_limits, counted_from, is_counted,
currency AS workspace_currency, time_zone

-- columns: fact
-- Of the view facts.
kind, partition, epoch, seq, workspace, book, code, user_id, at_ms, ip, user_agent, order_id, redemption_id, value_e4,
currency, digits, discount_e4, slot, max_redemptions, restore, reason, balance_after_e4, change, redeemed_epoch,
redeemed_seq, counted_ms, {sent}

-- columns: job
-- A job with its partition and its book, of jobs JOIN workspaces LEFT JOIN books.
job_id, workspace, kind, parameters, jobs.status, requested, done, errors, started_at, finished_at, changed, unchanged,
refused, before, pending, partition, book, book_id

-- columns: redemption
-- Of the view past_redemptions.
redemption_id, workspace, book, book_id, code, user_id, order_id, value_e4, currency, digits, discount_e4,
redeemed_at_ms, rolled_back_at_ms, ip, user_agent, balance_after_e4, {sent}

-- columns: workspace
workspace, workspace_id, partition, version, name, mode, currency, coupons_per_order, max_coupons, gift_book_id,
idempotency_hours, clock_offset_ms, limits, time_zone, storage_mib, storage_used_mib, operator_limits, suspended_at IS
NOT NULL AS is_suspended
