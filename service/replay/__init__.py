"""Real orders, replayed against a running service, and what came of them compared with what the file alone says.

It stands outside: it asks over HTTP, and reads Redis and Postgres for itself. It imports nothing of the service's but
the settings, for the service's own code would only agree with itself."""
