"""Authentication and authorization: keys, user tokens, people and roles."""
