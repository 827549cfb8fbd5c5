"""`scrip doctor`: examines Redis and Postgres, and reports faults and remedies. It changes nothing."""
