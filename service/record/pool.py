"""Connections to Postgres, and what a client is told while it is away."""

import asyncio
from collections.abc import Mapping
from typing import Any

import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy

log = structlog.get_logger()

Connection = asyncpg.Connection | PoolConnectionProxy
Database = asyncpg.Pool | Connection
"""What runs a statement: the pool, or a connection where a transaction is needed."""

MIN_VERSION = 14
_FITNESS = """
SELECT current_setting('synchronous_commit'), current_setting('fsync'), current_setting('full_page_writes'),
  current_setting('default_transaction_read_only'), pg_is_in_recovery()"""
# With `local`, `remote_write` or `off` a commit that was answered can be lost.
_DURABLE = ("on", "remote_apply")
# A process that is frozen in a transaction holds locks: another worker's on a lease that ended 10 s after, for one.
_PATIENCE = {"idle_in_transaction_session_timeout": "8s", "statement_timeout": "30s"}


class UnfitDatabase(RuntimeError):
    """This Postgres can't be the record; the message says what to change."""


ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, UnfitDatabase)
"""What any call may raise; the last but one of a connection that breaks while something is under way on it."""
_AWAY = (
    OSError,  # TimeoutError among them
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.QueryCanceledError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,  # a primary that became a replica
    asyncpg.InternalClientError,
    UnfitDatabase,  # its connections are never used
)


async def connect(
    database_url: str,
    *,
    name: str = "scrip",
    min_size: int = 1,
    max_size: int = 8,
    command_timeout_s: float = 30.0,
    connect_timeout_s: float = 5.0,
    patience: Mapping[str, str] = _PATIENCE,
) -> asyncpg.Pool:
    """A bounded pool; each connection is checked when it is made. `patience` is how long a statement or a transaction
    may take, as Postgres's settings. Raises UnfitDatabase where the server is too old, may forget what it committed,
    or takes nothing."""
    return await asyncpg.create_pool(
        database_url,
        min_size=min_size,
        max_size=max_size,
        command_timeout=command_timeout_s,
        timeout=connect_timeout_s,
        server_settings={"application_name": name} | dict(patience),
        init=_check,
        reset=_keep,
    )


async def connect_when_there(database_url: str, **options: Any) -> asyncpg.Pool:
    """As connect, for a process that starts: waits for a Postgres that is away or unfit, however long."""
    pause_s = 0.1
    while True:
        try:
            return await connect(database_url, **options)
        except ERRORS as error:
            if not is_away(error):
                raise
            log.warning("waiting_for_postgres", error=type(error).__name__)
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, 2.0)


def is_away(error: BaseException) -> bool:
    """Whether the error says that Postgres can't be reached or used, not that a statement was wrong."""
    if isinstance(error, asyncpg.InterfaceError):
        text = str(error)
        return "connection is closed" in text or "connection was closed" in text or "pool is clos" in text
    return isinstance(error, _AWAY)


async def unfit_reason(connection: asyncpg.Connection) -> str | None:
    """Why this server can't be the record, and what to change; None where it can."""
    version = connection.get_server_version().major
    if version < MIN_VERSION:
        return f"Postgres {version} is too old: {MIN_VERSION} or newer is needed."
    commit, fsync, full_pages, read_only, standby = await connection.fetchrow(_FITNESS)  # type: ignore[misc]
    reasons = (
        (standby, "This Postgres is a standby: name the primary in DATABASE_URL."),
        (commit not in _DURABLE, f"synchronous_commit is {commit}, so that commits may be lost: set it to on."),
        (fsync != "on", "fsync is off, so that a crash loses what is committed: set it to on."),
        (full_pages != "on", "full_page_writes is off, so that a crash may leave torn pages: set it to on."),
        (read_only != "off", "default_transaction_read_only is on, so that nothing can be recorded: set it to off."),
    )
    return next((reason for found, reason in reasons if found), None)


async def _keep(_connection: asyncpg.Connection) -> None:
    """Reset nothing: what is open is rolled back before this, and no statement of ours changes the session. What
    asyncpg does by default is a round trip more for each use of a connection."""


async def _check(connection: asyncpg.Connection) -> None:
    if reason := await unfit_reason(connection):
        log.error("postgres_unfit", reason=reason)
        raise UnfitDatabase(reason)
