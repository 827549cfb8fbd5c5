"""`scrip doctor`: looks at Redis and Postgres, says what is wrong and what to do, and changes nothing."""
