"""Partitions: leases, openings, failing tasks."""
