"""Orders that workers execute."""

WORKER_S = 40.0
"""Time for a worker to do something of an order: it pauses for at most 30 s between two tries."""
POLL_S = 0.2
