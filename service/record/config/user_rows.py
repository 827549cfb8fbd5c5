"""Users that were created, with their caps."""

from typing import Any, cast

import msgspec
from asyncpg import Pool, Record

from service.domain.configuration import UserRow
from service.domain.times import to_ms
from service.record.config.audit_log import note
from service.record.partitions.partition_rows import bump_config_version
from service.record.pool import Connection, Database
from service.record.queries import query


async def create_user(
    pool: Pool, workspace: int, partition: int, user_id: str, max_coupons: int | None, metadata: dict[str, Any]
) -> tuple[UserRow, bool]:
    """The user, and whether it is new; one that was created before stays as it is."""
    if (found := await read_user(pool, workspace, user_id)) is not None:
        return found, False
    async with pool.acquire() as connection, connection.transaction():
        version = await bump_config_version(connection, partition)
        found = await read_user(connection, workspace, user_id)
        if found is not None:  # created a moment ago; its new version is what this change has
            max_coupons, metadata = found.max_coupons, found.metadata
        row = await _write(connection, workspace, partition, user_id, version, max_coupons, metadata)
        if found is None:
            await note(connection, workspace, "user.created", user_id, after=_told(row))
        return row, found is None


async def patch_user(pool: Pool, workspace: int, partition: int, user_id: str, changes: dict[str, Any]) -> UserRow:
    """The user with `max_coupons` or `metadata` changed; created where it wasn't."""
    async with pool.acquire() as connection, connection.transaction():
        version = await bump_config_version(connection, partition)
        found = await read_user(connection, workspace, user_id)
        kept = {"max_coupons": None, "metadata": {}}
        if found is not None:
            kept = {"max_coupons": found.max_coupons, "metadata": found.metadata}
        row = await _write(connection, workspace, partition, user_id, version, **kept | changes)
        if found is None:
            await note(connection, workspace, "user.created", user_id, after=_told(row))
        else:
            await note(connection, workspace, "user.changed", user_id, _told(found), _told(row))
        return row


async def read_user(database: Database, workspace: int, user_id: str) -> UserRow | None:
    """A user, or None where it was never created."""
    record = await database.fetchrow(query("read_user"), workspace, user_id)
    return None if record is None else row_of(record)


async def page_users(database: Database, workspace: int, limit: int, before: int | None) -> list[tuple[UserRow, int]]:
    """Users with their places in the list, newest first."""
    records = await database.fetch(query("page_users"), workspace, before, limit)
    return [(row_of(record), record["position"]) for record in records]


def row_of(record: Record) -> UserRow:
    """The row as it was read."""
    return UserRow(
        workspace=record["workspace"],
        partition=record["partition"],
        version=record["version"],
        user_id=record["user_id"],
        max_coupons=record["max_coupons"],
        metadata=msgspec.json.decode(record["metadata"]),
        created_ms=to_ms(record["created_at"]),
    )


def _told(row: UserRow) -> dict[str, Any]:
    return {"maxCoupons": row.max_coupons, "metadata": row.metadata}


async def _write(
    connection: Connection,
    workspace: int,
    partition: int,
    user_id: str,
    version: int,
    max_coupons: int | None,
    metadata: dict[str, Any],
) -> UserRow:
    packed = msgspec.json.encode(metadata).decode()
    values = (workspace, partition, user_id, version, max_coupons, packed)
    return row_of(cast("Record", await connection.fetchrow(query("write_user"), *values)))
