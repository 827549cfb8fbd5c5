"""How long commands wait for workers that execute their orders: moving.py, quarantine_commands.py and rebuild.py read
these."""

WORKER_S = 40.0
"""Time for a worker to begin an order, or to go on with it: it pauses for at most 30 s between two tries."""
POLL_S = 0.2
