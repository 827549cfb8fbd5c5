"""Workspaces' bounds of storage in Redis. A worker stores what each uses; what adds books, codes or users checks it
before it writes."""

from typing import NamedTuple, cast

from asyncpg import Record

from service.engine.domain.figures import refuse_outcome
from service.engine.domain.outcomes import BY_CODE
from service.engine.domain.storage import MIB
from service.engine.record.pool import Connection, Database
from service.engine.record.queries import query


class StorageBound(NamedTuple):
    """A workspace's bound."""

    workspace: int
    name: str
    limit_mib: int
    used_mib: int
    """What was stored last."""


async def read_storage_bounds(database: Database, partition: int) -> list[StorageBound]:
    """Of the partition's workspaces."""
    return [StorageBound(*record) for record in await database.fetch(query("read_storage_bounds"), partition)]


async def note_storage_use(database: Database, workspace: int, used_mib: int) -> None:
    await database.execute(query("note_storage_use"), workspace, used_mib)


async def check_storage(connection: Connection, workspace: int, added_bytes: int) -> None:
    """Raise Refusal `storage_full` if so much more does not fit into the workspace's bound."""
    used_mib, limit_mib = cast("Record", await connection.fetchrow(query("read_storage"), workspace))
    if used_mib * MIB + added_bytes > limit_mib * MIB:
        raise refuse_outcome(cast("int", BY_CODE["storage_full"].number), f"{used_mib}/{limit_mib}")
