"""All that the service reads and writes in Postgres. Only `scrip doctor`, which checks the service, and the probe in
readiness.py have statements of their own; housekeeping.py runs two of sql/queries itself."""
