"""Sessions of the console. Only a digest of the browser's secret is stored; a session has its key's rights. session.py
(of the console) begins and ends them, key_rows.py reads them with the keys. Each change raises the version of the keys;
else API processes don't read it."""

import secrets
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from asyncpg import Pool

from service.access.caller import Caller
from service.access.keyring import digest_session_secret
from service.domain.times import from_ms, to_ms
from service.record.config.audit_log import write_audit
from service.record.pool import Database
from service.record.queries import query

LIFE = timedelta(hours=12)
MAX_OF_KEY = 20
"""Sessions of one key; the oldest end first."""


async def begin_session(pool: Pool, workspace: int, key_id: UUID) -> tuple[str, datetime]:
    """Start a session; return its secret and end. Processes accept it from their next reading of the keys on."""
    secret, ends_at = secrets.token_urlsafe(32), datetime.now(UTC) + LIFE
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(query("insert_session"), digest_session_secret(secret), key_id, ends_at)
        await connection.execute(query("prune_sessions"), key_id, MAX_OF_KEY)
        await connection.execute(query("bump_keys_version"))
        await write_audit(connection, workspace, "session.began", key_id, after={"endsAt": from_ms(to_ms(ends_at))})
    return secret, ends_at


async def end_session(pool: Pool, workspace: int, secret: str) -> None:
    """End a session; processes reject it from their next reading of the keys on."""
    async with pool.acquire() as connection, connection.transaction():
        key_id = await connection.fetchval(query("delete_session"), digest_session_secret(secret))
        if key_id is not None:
            await connection.execute(query("bump_keys_version"))
            await write_audit(connection, workspace, "session.ended", key_id)


async def read_sessions(database: Database, callers: Iterable[Caller]) -> dict[bytes, Caller]:
    """The caller of every live session of these keys, by the session's digest."""
    by_key = {caller.key_id: caller for caller in callers}
    sessions: dict[bytes, Caller] = {}
    for record in await database.fetch(query("read_sessions")):
        caller = by_key.get(record["key_id"])
        if caller is not None:
            ends_ms = to_ms(record["expires_at"])
            sessions[record["session_hash"]] = replace(caller, expires_ms=min(ends_ms, caller.expires_ms or ends_ms))
    return sessions
