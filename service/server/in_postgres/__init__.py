"""What only the server reads and writes in Postgres."""
