"""Users that were created, with their caps. users.py calls this; changes.py reads rows for Redis. Each change takes the
next version first, so that others wait."""

from typing import Any, cast

from asyncpg import Pool, Record

from service.engine.domain.configuration import UserRow
from service.engine.domain.storage import USER_BYTES
from service.engine.record.audit_entries import write_audit
from service.engine.record.configuration_rows import user_row
from service.engine.record.partitions.partition_rows import bump_config_version
from service.engine.record.pool import Connection, Database
from service.engine.record.queries import query
from service.engine.record.stored_json import encode_json
from service.server.in_postgres.storage_rows import check_storage


async def create_user(
    pool: Pool, workspace: int, partition: int, user_id: str, max_coupons: int | None, metadata: dict[str, Any]
) -> tuple[UserRow, bool]:
    """Create a user; return it, and whether it is new. An existing user stays as it is."""
    if (existing := await read_user(pool, workspace, user_id)) is not None:
        return existing, False
    async with pool.acquire() as connection, connection.transaction():
        version = await bump_config_version(connection, partition)
        existing = await read_user(connection, workspace, user_id)
        if existing is not None:  # created since; this change has its new version
            max_coupons, metadata = existing.max_coupons, existing.metadata
        else:
            await check_storage(connection, workspace, USER_BYTES)
        row = await _write(connection, workspace, partition, user_id, version, max_coupons, metadata)
        if existing is None:
            await write_audit(connection, workspace, "user.created", user_id, after=_to_audit(row))
        return row, existing is None


async def patch_user(pool: Pool, workspace: int, partition: int, user_id: str, changes: dict[str, Any]) -> UserRow:
    """Change `max_coupons` or `metadata`; create the user if it doesn't exist."""
    async with pool.acquire() as connection, connection.transaction():
        version = await bump_config_version(connection, partition)
        existing = await read_user(connection, workspace, user_id)
        values: dict[str, Any] = {"max_coupons": None, "metadata": {}}
        if existing is not None:
            values = {"max_coupons": existing.max_coupons, "metadata": existing.metadata}
        row = await _write(connection, workspace, partition, user_id, version, **values | changes)
        if existing is None:
            await write_audit(connection, workspace, "user.created", user_id, after=_to_audit(row))
        else:
            await write_audit(connection, workspace, "user.changed", user_id, _to_audit(existing), _to_audit(row))
        return row


async def read_user(database: Database, workspace: int, user_id: str) -> UserRow | None:
    record = await database.fetchrow(query("read_user"), workspace, user_id)
    return None if record is None else user_row(record)


async def page_users(database: Database, workspace: int, limit: int, before: int | None) -> list[tuple[UserRow, int]]:
    """Users with their positions in the list, newest first."""
    records = await database.fetch(query("page_users"), workspace, before, limit)
    return [(user_row(record), record["position"]) for record in records]


def _to_audit(row: UserRow) -> dict[str, Any]:
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
    values = (workspace, partition, user_id, version, max_coupons, encode_json(metadata))
    return user_row(cast("Record", await connection.fetchrow(query("write_user"), *values)))
