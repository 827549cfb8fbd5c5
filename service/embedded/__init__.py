"""Valkey and Postgres for one machine, and the processes of `scrip run`."""
