"""API keys. Only a digest of a secret is stored. keys.py, admin.py and demo_data.py change keys; wiring.py reads them
all into the memory of an API process, and after a change those of its workspace. Each change raises the version of the
keys, or processes don't read it; where a check follows, first, for its row lock. The digest and the prefix
`scrip_<mode>_` must not change: merchants have the secrets. Fields of KeyRow are those of the API."""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, cast
from uuid import UUID

import msgspec
from asyncpg import Pool, Record, UniqueViolationError
from uuid_utils.compat import uuid7

from service.common.left_out import leave_out
from service.engine.domain.configuration import WorkspaceRow
from service.engine.domain.errors import Refusal, invalid
from service.engine.domain.limits import KeyLimits, WorkspaceLimits, check_operator_limits, encode_key_limits
from service.engine.domain.times import to_datetime, to_ms
from service.engine.operations.caller import Caller
from service.engine.record.audit_entries import write_audit
from service.engine.record.pool import Connection, Database
from service.engine.record.queries import query
from service.engine.record.stored_json import encode_json, limits_from
from service.server.in_postgres.console_sessions import PIECE, read_sessions
from service.server.in_postgres.workspace_rows import read_workspace

MAX_KEYS = 1000
"""Of one workspace; every process has all keys in memory."""
NO_KEY = "No key of this workspace has this id. `GET /v1/keys` lists them."
_PREFIX_LENGTH = 16


class SecretTaken(Exception):
    """A key with this secret exists, or existed."""


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """A key, without its secret."""

    key_id: UUID
    name: str
    prefix: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    limits: KeyLimits | None
    position: int


def digest(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


def generate_secret(mode: str) -> str:
    """A random secret that names the service and the mode."""
    return f"scrip_{mode}_{secrets.token_urlsafe(32)}"


async def create_key(
    connection: Connection,
    workspace: int,
    name: str,
    scopes: Sequence[str],
    secret: str,
    expires_at: datetime | None = None,
    replaces: UUID | None = None,
    limits: KeyLimits | None = None,
) -> KeyRow:
    """Create a key. Raises SecretTaken, and Refusal `invalid` if the workspace has too many, or a limit is above
    the operator's."""
    columns = (secret[:_PREFIX_LENGTH], digest(secret), scopes, expires_at, replaces, encode_json(limits))
    values = (uuid7(), workspace, name, *columns)
    try:
        async with connection.transaction():
            await connection.execute(query("bump_keys_version"), workspace)  # first: its row lock serializes the count
            if cast("int", await connection.fetchval(query("count_keys"), workspace)) >= MAX_KEYS:
                raise invalid("name", f"can't be given, since the workspace has {MAX_KEYS} keys: revoke some")
            await _check_limits(connection, workspace, limits)
            record = cast("Record", await connection.fetchrow(query("insert_key"), *values))
            after = {"name": name, "scopes": scopes, "expiresAt": expires_at, "replaces": replaces, "limits": limits}
            await write_audit(connection, workspace, "key.created", record["key_id"], after=after)
    except UniqueViolationError:
        raise SecretTaken from None
    return _row_of(record)


async def rotate_key(pool: Pool, workspace: int, key_id: UUID, secret: str, overlap_s: int) -> KeyRow:
    """Create a key that replaces another, with its name, scopes and end; the other expires after so many seconds.

    A key that the other had replaced is revoked, so that at most two are valid. Raises Refusal `not_found`, and
    `invalid` if the key was rotated before.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(query("bump_keys_version"), workspace)
        old = await connection.fetchrow(query("read_key"), workspace, key_id)
        if old is None:
            raise Refusal("not_found", NO_KEY)
        if old["replaced"]:
            raise invalid("keyId", "was rotated before: rotate the key that took its place")
        await connection.execute(query("end_key"), key_id, overlap_s)
        await write_audit(connection, workspace, "key.rotated", key_id, after={"overlapSeconds": overlap_s})
        if old["replaces"] is not None:
            await revoke_key(connection, workspace, old["replaces"])
        return await create_key(
            connection, workspace, old["name"], old["scopes"], secret, old["expires_at"], key_id,
            limits_from(old["limits"], KeyLimits),
        )  # fmt: skip


async def limit_key(pool: Pool, workspace: int, key_id: UUID, limits: KeyLimits | None) -> KeyRow:
    """Replace the key's limits. Raises Refusal `not_found`, and `invalid` if one is above the operator's."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(query("bump_keys_version"), workspace)  # first: its row lock serializes changes
        old = await connection.fetchrow(query("read_key"), workspace, key_id)
        if old is None:
            raise Refusal("not_found", NO_KEY)
        await _check_limits(connection, workspace, limits)
        record = await connection.fetchrow(query("update_key_limits"), workspace, key_id, encode_json(limits))
        before = limits_from(old["limits"], KeyLimits)
        await write_audit(connection, workspace, "key.changed", key_id, {"limits": before}, {"limits": limits})
        return _row_of(cast("Record", record))


async def _check_limits(connection: Connection, workspace: int, limits: KeyLimits | None) -> None:
    if limits is not None:
        check_operator_limits("limits", limits, (await read_workspace(connection, workspace)).operator_limits)


async def page_keys(database: Database, workspace: int, limit: int, before: int | None) -> list[KeyRow]:
    """Keys that are not revoked, newest first."""
    return [_row_of(record) for record in await database.fetch(query("page_keys"), workspace, before, limit)]


async def revoke_key(connection: Connection, workspace: int, key_id: UUID) -> bool:
    """Revoke a key; return whether it existed. Processes reject it from their next reading of the keys on."""
    async with connection.transaction():
        if await connection.fetchval(query("revoke_key"), workspace, key_id) is None:
            return False
        await connection.execute(query("bump_keys_version"), workspace)
        await write_audit(connection, workspace, "key.revoked", key_id)
        return True


async def is_any_known(database: Database, secrets: Sequence[str]) -> bool:
    """Whether any of these is a valid key's secret."""
    return cast("bool", await database.fetchval(query("is_any_known"), [digest(secret) for secret in secrets]))


async def read_version(database: Database) -> int:
    """The number of the last change of any key."""
    return cast("int", await database.fetchval(query("read_keys_version")))


async def read_changes(database: Database, known: int = -1) -> tuple[int, list[int] | None]:
    """The number of the last change of any key, and the workspaces with changes after a known one. None if all keys
    must be read: no change is known, or Postgres has become an older one."""
    version, workspaces = cast("Record", await database.fetchrow(query("read_key_changes"), known))
    return version, workspaces if 0 <= known <= version else None


async def read_callers(database: Database, workspaces: Sequence[int] | None = None) -> dict[bytes, Caller]:
    """The caller of every valid key and session, of all workspaces or of these, by its digest. A key whose row can't be
    read is left out."""
    callers: dict[bytes, Caller] = {}
    for number, record in enumerate(await database.fetch(query("read_callers"), workspaces)):
        if not number % PIECE:
            await asyncio.sleep(0)
        try:
            callers[record["secret_hash"]] = _caller_of(record)
        except (ValueError, LookupError, TypeError, msgspec.MsgspecError) as error:  # other tenants' keys stay valid
            leave_out("keys", error, record["workspace"])
    return callers | await read_sessions(database, callers.values(), workspaces)


def _caller_of(record: Record) -> Caller:
    expires_at = record["expires_at"]
    return Caller(
        key_id=record["key_id"],
        person=record["person"],
        workspace=record["workspace"],
        workspace_id=record["workspace_id"],
        partition=record["partition"],
        mode=record["mode"],
        scopes=frozenset(record["scopes"]),
        expires_ms=None if expires_at is None else to_ms(expires_at),
        limits=encode_key_limits(
            limits_from(record["limits"], KeyLimits),
            limits_from(record["workspace_limits"], WorkspaceLimits),
            limits_from(record["operator_limits"], KeyLimits),
            of_books=record["of_books"],
        ),
        is_suspended=record["is_suspended"],
    )


def _row_of(record: Record) -> KeyRow:
    fields: dict[str, Any] = dict(record) | {"limits": limits_from(record["limits"], KeyLimits)}
    return KeyRow(**fields)


async def limits_of_users(database: Database, row: WorkspaceRow) -> str:
    """The limits of users' tokens, which the workspace sets."""
    of_books = cast("bool", await database.fetchval(query("is_any_book_limiting_misses"), row.workspace))
    return encode_key_limits(None, row.limits, row.operator_limits, of_books=of_books)


async def touch_keys(database: Database, used_ms: Mapping[UUID, int]) -> None:
    await database.execute(query("touch_keys"), list(used_ms), [to_datetime(at) for at in used_ms.values()])
