"""Moves of data: workspaces to other partitions, ended books out of Redis and back."""
