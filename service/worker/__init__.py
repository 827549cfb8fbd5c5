"""What moves between Redis and Postgres."""
