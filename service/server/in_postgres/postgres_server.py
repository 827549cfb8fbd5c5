"""Figures of the Postgres server for the console. overview.py calls this, and copies the fields by name into JSON; they
have the order of the query's columns."""

import msgspec

from service.engine.record.pool import Database
from service.engine.record.queries import query


class PostgresFigures(msgspec.Struct, frozen=True):
    version: str
    database_bytes: int
    connections: int


async def read_figures(database: Database) -> PostgresFigures:
    return PostgresFigures(*await database.fetchrow(query("read_postgres_figures")))  # type: ignore[misc]
