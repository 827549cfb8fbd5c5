"""Wire formats: one module for each thing that Redis, the outbox or a client's cursor holds."""
