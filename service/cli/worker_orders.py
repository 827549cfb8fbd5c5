"""How long commands wait for workers to execute orders, for quarantine_commands.py and rebuild.py."""

WORKER_S = 40.0
"""Time for a worker to begin an order, or to go on with it: between two tries to work on a partition it pauses for at
most 30 s (LONGEST_RETRY_S in partition_worker.py)."""
POLL_S = 0.2
