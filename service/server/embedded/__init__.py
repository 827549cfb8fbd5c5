"""`scrip run`: embedded Valkey and Postgres, and the processes of the service on one machine."""
