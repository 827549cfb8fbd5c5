"""What makes a Redis hold what Postgres holds, before its partition decides."""
