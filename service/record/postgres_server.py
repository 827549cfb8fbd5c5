"""What Postgres says of itself."""

import msgspec

from service.record.pool import Database
from service.record.queries import query


class Server(msgspec.Struct, frozen=True):
    """Its version, and the database's size and connections, other programs' included."""

    version: str
    bytes: int
    connections: int


async def read_server(database: Database) -> Server:
    """What it says now."""
    return Server(*await database.fetchrow(query("read_server")))  # type: ignore[misc]
