"""Connections to Postgres, and what a client is told while it is away."""

import asyncio
from typing import Any

import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy

log = structlog.get_logger()

Connection = asyncpg.Connection | PoolConnectionProxy
Database = asyncpg.Pool | Connection
"""What runs a statement: the pool, or a connection where a transaction is needed."""

MIN_VERSION = 14
# With `local`, `remote_write` or `off` a commit that was answered can be lost.
_DURABLE = ("on", "remote_apply")
# A process that is frozen in a transaction holds locks: another worker's on a lease that ended 10 s after, for one.
_PATIENCE = {"idle_in_transaction_session_timeout": "8s", "statement_timeout": "30s"}
ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What any call may raise; the last of a connection that breaks while something is under way on it."""
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
)


class UnfitDatabase(RuntimeError):
    """This Postgres can't be the record."""


async def connect(
    database_url: str,
    *,
    name: str = "scrip",
    min_size: int = 1,
    max_size: int = 8,
    command_timeout_s: float = 30.0,
    connect_timeout_s: float = 5.0,
) -> asyncpg.Pool:
    """A bounded pool. Raises UnfitDatabase where the server is too old or may forget what it committed."""
    return await asyncpg.create_pool(
        database_url,
        min_size=min_size,
        max_size=max_size,
        command_timeout=command_timeout_s,
        timeout=connect_timeout_s,
        server_settings={"application_name": name} | _PATIENCE,
        init=_check,
    )


async def connect_when_there(database_url: str, **options: Any) -> asyncpg.Pool:
    """As connect, for a process that starts: waits for a Postgres that is away, however long."""
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
    """Whether the error says that Postgres can't be reached, not that a statement was wrong."""
    if isinstance(error, asyncpg.InterfaceError):
        text = str(error)
        return "connection is closed" in text or "connection was closed" in text or "pool is clos" in text
    return isinstance(error, _AWAY)


async def _check(connection: asyncpg.Connection) -> None:
    version = connection.get_server_version().major
    if version < MIN_VERSION:
        raise UnfitDatabase(f"Postgres {version} is too old: {MIN_VERSION} or newer is needed.")
    commit = await connection.fetchval("SELECT current_setting('synchronous_commit')")
    if commit not in _DURABLE:
        raise UnfitDatabase(f"synchronous_commit is {commit}, so that what is committed may be lost: set it to on.")
