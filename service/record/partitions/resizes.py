"""Changes of the number of partitions (docs/decisions/0059)."""

from uuid import UUID

import msgspec

from service.record.partitions.moves import Move
from service.record.pool import Connection, Database
from service.record.queries import query

CLAIM_S = 10.0
"""A command that has not renewed its claim for so long has ended."""


class Placement(msgspec.Struct, frozen=True):
    """Where a workspace is."""

    workspace: int
    name: str
    partition: int
    codes: int
    """In Redis."""


async def claim_resize(connection: Connection, partitions: int, command: UUID) -> bool:
    """Set the number of partitions that is wanted, and create those that are missing. From here on new workspaces and
    moves go only to the first `partitions`. False while another command changes the number."""
    async with connection.transaction():
        if await connection.fetchval(query("claim_resize"), partitions, command, CLAIM_S) is None:
            return False
        await connection.execute(query("insert_partitions"), partitions)
        await connection.execute(query("create_again"), partitions)
    return True


async def renew_resize(database: Database, command: UUID) -> bool:
    """False if another command has the claim."""
    return await database.fetchval(query("renew_resize"), command, CLAIM_S) is not None


async def end_resize(database: Database, command: UUID) -> None:
    await database.execute(query("end_resize"), command)


async def read_placements(database: Database) -> list[Placement]:
    """All workspaces, the oldest first."""
    return [Placement(**row) for row in await database.fetch(query("read_placements"))]


async def count_workspaces(database: Database) -> dict[int, int]:
    """The number of workspaces by partition, without those that have none."""
    return dict(await database.fetch(query("count_workspaces")))


async def unfinished_moves(database: Database) -> list[Move]:
    """The oldest first."""
    return [Move(*row) for row in await database.fetch(query("unfinished_moves"))]


async def close_for_removal(database: Database, partition: int, fence: int) -> bool:
    """Close a partition that is to be removed. False if the lease is lost, or the partition is in use or wanted."""
    return await database.fetchval(query("close_for_removal"), partition, fence) is not None


async def mark_removed(database: Database, partition: int, fence: int) -> bool:
    """Store that the partition has no keys any more. False if the lease is lost, or the partition is wanted again."""
    return await database.fetchval(query("mark_removed"), partition, fence) is not None
