"""The HTTP service around the engine: management, access, jobs, webhooks, comparisons, embedded servers."""
