-- name: analyze_grown_tables
-- Refresh the statistics of tables that have doubled since, the largest first.
-- $1 min_bytes bigint  $2 limit int
SELECT analyze_grown_tables($1, $2);
