"""Servers and a service of one's own, for load tests and tests."""
