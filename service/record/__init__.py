"""The only place that talks to Postgres. Only `scrip doctor` and `scrip replay`, which check the service, have
statements of their own."""
