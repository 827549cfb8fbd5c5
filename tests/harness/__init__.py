"""Servers and a service of one's own, for tests and load tests; it imports no other test."""
