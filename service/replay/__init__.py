"""`scrip replay`: sends real orders to a running service, and compares the results with an independent expectation.

The package checks the service from outside: over HTTP, and by reading Redis and Postgres itself. Of the service it
imports only the settings: the service's own code would repeat the service's own errors.
"""
