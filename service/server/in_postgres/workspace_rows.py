"""Workspaces and their settings. workspace.py, admin.py and demo_data.py change them; many read them. The names in the
audit are those of the API. A change takes the version first, so that others wait; one of `limits`
also raises the version of the keys, with which API processes read both."""

from typing import Any, Literal, cast
from uuid import UUID

import asyncpg
import msgspec
from asyncpg import Pool, Record
from uuid_utils.compat import uuid7

from service.common.logs import workspace_names
from service.engine.domain.configuration import WorkspaceRow
from service.engine.domain.errors import invalid
from service.engine.domain.limits import KeyLimits, check_operator_limits
from service.engine.domain.money import CURRENCY_DIGITS
from service.engine.domain.settings import to_camel
from service.engine.formats import key_names
from service.engine.record.audit_entries import write_audit
from service.engine.record.configuration_rows import workspace_row
from service.engine.record.partitions.partition_rows import bump_config_version
from service.engine.record.pool import Connection, Database
from service.engine.record.queries import query
from service.engine.record.stored_json import encode_json

LATE = 100
"""So many numbers are read again: a lower one may be committed later than a higher one."""
_AUDITED = (
    "currency coupons_per_order max_coupons gift_book_id idempotency_hours clock_offset_ms limits time_zone "
    "storage_mib operator_limits is_suspended"
).split()


class NameTaken(Exception):
    """A workspace has this name."""


class NoSuchPartition(Exception):
    """The database has partitions from 0 to `last`."""

    def __init__(self, last: int) -> None:
        self.last = last


async def create_workspace(
    connection: Connection,
    name: str,
    mode: Literal["live", "test"] = "live",
    workspace_id: UUID | None = None,
    partition: int | None = None,
) -> WorkspaceRow:
    """Create a workspace, by default with a new id, in the partition of that; the worker projects it. Raises NameTaken,
    NoSuchPartition."""
    workspace_id = workspace_id or uuid7()
    try:
        async with connection.transaction():
            partitions = cast("int", await connection.fetchval(query("read_settings")))
            if partition is None:
                partition = key_names.partition_of(str(workspace_id), partitions)
            elif partition >= partitions:
                raise NoSuchPartition(partitions - 1)
            values = (workspace_id, name, mode, partition, await bump_config_version(connection, partition))
            workspace = cast("int", await connection.fetchval(query("insert_workspace"), *values))
            after = {"name": name, "mode": mode}
            await write_audit(connection, workspace, "workspace.created", workspace_id, after=after)
            return await read_workspace(connection, workspace)
    except asyncpg.UniqueViolationError:
        raise NameTaken(name) from None


async def all_workspaces(database: Database) -> list[WorkspaceRow]:
    """Every workspace, by name."""
    return [workspace_row(record) for record in await database.fetch(query("read_all_workspaces"))]


async def read_workspace_names(database: Database) -> dict[int, str]:
    """The names of all workspaces by their inner numbers."""
    return {workspace: name for workspace, name, _ in await database.fetch(query("read_workspace_names"), 0)}


async def read_workspace(database: Database, workspace: int) -> WorkspaceRow:
    """An existing workspace by its inner number."""
    return workspace_row(cast("Record", await database.fetchrow(query("read_workspace"), workspace)))


async def learn_names(database: Database) -> None:
    """Learn the names and ids of new workspaces, for the log."""
    last = max(workspace_names, default=0)
    for workspace, name, workspace_id in await database.fetch(query("read_workspace_names"), last - LATE):
        workspace_names[workspace] = name, str(workspace_id)


async def workspace_named(database: Database, name: str) -> int | None:
    """The inner number of the workspace with this name."""
    return await database.fetchval(query("read_workspace_number"), name)


async def change_storage_bound(connection: Connection, workspace: int, storage_mib: int) -> WorkspaceRow:
    """Change a workspace's bound of storage; the worker applies it within seconds."""
    return await _change_as_operator(connection, workspace, "update_storage_bound", storage_mib=storage_mib)


async def set_operator_limits(connection: Connection, workspace: int, limits: KeyLimits | None) -> WorkspaceRow:
    """Set the most that the limits of a workspace's keys may be; processes know it within a second."""
    return await _change_as_operator(connection, workspace, "update_operator_limits", operator_limits=limits)


async def suspend_workspace(connection: Connection, workspace: int, is_suspended: bool) -> WorkspaceRow:
    """Refuse all requests of a workspace, or no longer; processes know it within a second."""
    return await _change_as_operator(connection, workspace, "suspend_workspace", is_suspended=is_suspended)


async def _change_as_operator(connection: Connection, workspace: int, update: str, **change: Any) -> WorkspaceRow:
    """Change one field, by an update with that value. All but the bound of storage are read with the keys."""
    (value,) = change.values()
    async with connection.transaction():
        partition = (await read_workspace(connection, workspace)).partition
        version = await bump_config_version(connection, partition)
        old = await read_workspace(connection, workspace)
        row = msgspec.structs.replace(old, version=version, **change)
        stored = encode_json(value) if isinstance(value, KeyLimits) else value
        await connection.execute(query(update), workspace, version, stored)
        await write_audit(connection, workspace, "workspace.changed", row.workspace_id, _to_audit(old), _to_audit(row))
        if "storage_mib" not in change:
            await connection.execute(query("bump_keys_version"), workspace)
        return row


async def patch_workspace(pool: Pool, workspace: int, partition: int, changes: dict[str, Any]) -> WorkspaceRow:
    """Change these fields of the workspace's row. A currency is of later books: those with a discount have their own.

    Raises Refusal `invalid` if a limit is above the operator's, the gift book is not the workspace's, or Postgres lacks
    the time zone.
    """
    if "time_zone" in changes:
        try:
            await pool.execute(query("check_time_zone"), changes["time_zone"])
        except asyncpg.InvalidParameterValueError:
            raise invalid("timeZone", "must be a time zone that Postgres has, too") from None
    async with pool.acquire() as connection, connection.transaction():
        version = await bump_config_version(connection, partition)
        old = await read_workspace(connection, workspace)
        row = msgspec.structs.replace(old, version=version, **changes)
        check_operator_limits("limits.keys", row.limits.keys if row.limits else None, row.operator_limits)
        row = msgspec.structs.replace(row, digits=CURRENCY_DIGITS[row.currency])
        await check_gift_book(connection, workspace, row.gift_book_id)
        values = (row.currency, row.coupons_per_order, row.max_coupons, row.gift_book_id, row.idempotency_hours)
        stored = (*values, row.clock_offset_ms, encode_json(row.limits))
        await connection.execute(query("update_workspace"), workspace, version, *stored, row.time_zone)
        if "limits" in changes:
            await connection.execute(query("bump_keys_version"), workspace)
        await write_audit(connection, workspace, "workspace.changed", row.workspace_id, _to_audit(old), _to_audit(row))
        if row.time_zone != old.time_zone:
            await _count_anew(connection, workspace, partition)
        return row


async def _count_anew(connection: Connection, workspace: int, partition: int) -> None:
    """Give each book with budgets a new generation: their days and months are other ones."""
    for record in await connection.fetch(query("budgeted_books"), partition, workspace):
        version = await bump_config_version(connection, partition)
        await connection.execute(query("count_anew"), workspace, record["book"], version)


def _to_audit(row: WorkspaceRow) -> dict[str, Any]:
    return {to_camel(name): getattr(row, name) for name in _AUDITED}


async def check_gift_book(database: Database, workspace: int, book_id: UUID | None) -> None:
    """Raise Refusal `invalid` if this is no book of the workspace."""
    if book_id is not None and await database.fetchrow(query("read_book"), workspace, book_id) is None:
        raise invalid("giftBookId", "is no book of this workspace")
