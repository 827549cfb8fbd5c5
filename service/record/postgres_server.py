"""Facts about the Postgres server."""

import msgspec

from service.record.pool import Database
from service.record.queries import query


class Server(msgspec.Struct, frozen=True):
    version: str
    bytes: int
    connections: int


async def read_server(database: Database) -> Server:
    return Server(*await database.fetchrow(query("read_server")))  # type: ignore[misc]
