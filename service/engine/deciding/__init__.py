"""Decides the requests of a process: its partitions, their epochs, its look-ups in Postgres."""
