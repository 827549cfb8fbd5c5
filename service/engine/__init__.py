"""Decides in Redis, records in Postgres, opens and recovers partitions. README.md is where a reader begins."""
