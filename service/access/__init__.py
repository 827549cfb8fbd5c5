"""Authentication and authorization: callers, keys, user tokens and roles."""
