"""What moves between Redis and Postgres. process.py starts it, partition_worker.py does it for one partition."""
