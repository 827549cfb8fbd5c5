"""`scrip replay`: sends real orders to a running service, and compares the results with an independent expectation.

The package checks the service from outside: over HTTP, and by reading Redis and Postgres itself. Of the service it
imports only settings, addresses and connections: its rules and formats would repeat the service's own errors.
"""
