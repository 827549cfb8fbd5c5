"""Sessions of the console, of a key or of a person. Only a digest of the browser's secret is stored; a key's session
has the key's rights. session.py and sign_in.py (of the console) begin and end them, key_rows.py reads them with the
keys. Each change raises the version of the keys; else API processes don't read it."""

import asyncio
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from asyncpg import Pool

from service.engine.domain.times import from_ms, to_ms
from service.engine.operations.caller import Caller
from service.engine.record.audit_entries import write_audit
from service.engine.record.pool import Connection, Database
from service.engine.record.queries import query
from service.server.access.keyring import digest_session_secret

LIFE = timedelta(hours=12)
MAX_SESSIONS, SESSIONS_OF_WORKSPACE = 20, 1000
"""Of one key or person, and of a workspace; the oldest end first. Processes read all after each change of a key."""
PIECE = 50
"""Keys or sessions, half a millisecond of the event loop: a process reads them while it answers requests."""


async def begin_session(pool: Pool, workspace: int, owner: UUID | str, scopes: Sequence[str] | None = None) -> str:
    """Begin a session of a key, or of a person with these scopes; return its secret. Processes accept it from their
    next reading of the keys on."""
    secret, ends_at = secrets.token_urlsafe(32), datetime.now(UTC) + LIFE
    owners = (owner, None) if isinstance(owner, UUID) else (None, owner)
    after = {"endsAt": from_ms(to_ms(ends_at)), **({} if scopes is None else {"scopes": scopes})}
    async with pool.acquire() as connection, connection.transaction():
        values = (digest_session_secret(secret), workspace, *owners, scopes, ends_at)
        await connection.execute(query("insert_session"), *values)
        await connection.execute(query("prune_sessions"), workspace, str(owner), MAX_SESSIONS, SESSIONS_OF_WORKSPACE)
        await connection.execute(query("bump_keys_version"), workspace)
        await write_audit(connection, workspace, "session.began", owner, after=after)
    return secret


async def end_session(pool: Pool, caller: Caller, secret: str) -> None:
    """End a caller's session; processes reject it from their next reading of the keys on."""
    async with pool.acquire() as connection, connection.transaction():
        if await connection.fetchval(query("delete_session"), digest_session_secret(secret)):
            await connection.execute(query("bump_keys_version"), caller.workspace)
            await write_audit(connection, caller.workspace, "session.ended", caller.person or caller.key_id)


async def end_sessions_of(connection: Connection, workspace: int, person: str) -> int:
    """End all sessions of a person, and return how many there were."""
    async with connection.transaction():
        ended = len(await connection.fetch(query("delete_sessions_of"), workspace, person))
        if ended:
            await connection.execute(query("bump_keys_version"), workspace)
            await write_audit(connection, workspace, "session.ended", person)
    return ended


async def read_sessions(
    database: Database, callers: Iterable[Caller], workspaces: Sequence[int] | None = None
) -> dict[bytes, Caller]:
    """The caller of every live session of these keys, by the session's digest; of all workspaces, or of these."""
    by_key = {caller.key_id: caller for caller in callers if caller.key_id is not None}
    sessions: dict[bytes, Caller] = {}
    for number, record in enumerate(await database.fetch(query("read_sessions"), workspaces)):
        if not number % PIECE:
            await asyncio.sleep(0)
        caller = by_key.get(record["key_id"])
        if caller is not None:
            ends_ms = to_ms(record["expires_at"])
            sessions[record["session_hash"]] = replace(caller, expires_ms=min(ends_ms, caller.expires_ms or ends_ms))
    return sessions
