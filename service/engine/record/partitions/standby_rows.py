"""What Postgres reports about its standbys. standbys.py waits by it, checks.py and
server_metrics.py report it, and process.py checks the right to read it."""

from typing import ClassVar, cast

import msgspec

from service.engine.formats.event_id import EventId
from service.engine.record.partitions.partition_rows import UnusableRecord
from service.engine.record.pool import Database
from service.engine.record.queries import query


class StandbysHidden(UnusableRecord):
    """The role may not read how far standbys are."""

    code: ClassVar[str] = "standbys_hidden"

    def __init__(self, role: str) -> None:
        super().__init__(
            f"SCRIP_STANDBYS is set, and the role {role} may not read how far standbys are. "
            f'Run GRANT pg_read_all_stats TO "{role}" as an administrator.'
        )


class Flushed(msgspec.Struct, frozen=True):
    """A partition's cursor, and positions of the WAL in bytes."""

    incarnation: str
    cursor: EventId
    written: int
    """The primary has flushed up to here, the cursor's commit included."""
    flushed: int | None
    """So many standbys have flushed up to here; None if fewer stream, or if the role may not know."""


async def check_visible(database: Database) -> None:
    """Raises StandbysHidden."""
    role, may_read = await database.fetchrow(query("may_read_standbys"))  # type: ignore[misc]
    if not may_read:
        raise StandbysHidden(role)


async def read_flushed(database: Database, partition: int, standbys: int) -> Flushed:
    incarnation, *cursor, written, flushed = await database.fetchrow(  # type: ignore[misc]
        query("read_flushed"), partition, standbys
    )
    return Flushed(incarnation, EventId(*cursor), written, flushed)


async def count_streaming(database: Database) -> int:
    """The number of standbys that stream."""
    return cast("int", await database.fetchval(query("count_streaming")))
