"""Partitions: leases, openings and comparisons."""
