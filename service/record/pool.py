"""Connections to Postgres, and how to tell an outage from an error."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy

log = structlog.get_logger()

Connection = asyncpg.Connection | PoolConnectionProxy
Database = asyncpg.Pool | Connection
"""The pool; or a connection, if a transaction is needed."""

MIN_VERSION = 14
_FITNESS = """
SELECT current_setting('synchronous_commit'), current_setting('fsync'), current_setting('full_page_writes'),
  current_setting('default_transaction_read_only'), pg_is_in_recovery()"""
# With `local`, `remote_write` or `off`, a confirmed commit can be lost.
_DURABLE = ("on", "remote_apply")
# A frozen process in a transaction holds locks: for example on a lease that expired after 10 s.
_TIMEOUTS = {"idle_in_transaction_session_timeout": "8s", "statement_timeout": "30s"}


class UnfitDatabase(RuntimeError):
    """This Postgres can't be the record. The message says what to change."""


ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, UnfitDatabase)
"""Any call may raise these. InternalClientError: the connection broke during an operation."""
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
    timeouts: Mapping[str, str] = _TIMEOUTS,
) -> asyncpg.Pool:
    """A bounded pool. Each new connection is checked. `timeouts` are Postgres settings that bound statements and
    transactions. Raises UnfitDatabase if the server is too old, may lose commits, or is read-only."""
    return await asyncpg.create_pool(
        database_url,
        min_size=min_size,
        max_size=max_size,
        command_timeout=command_timeout_s,
        timeout=connect_timeout_s,
        server_settings={"application_name": name} | dict(timeouts),
        init=_check,
        reset=_keep,
    )


async def connect_when_there(database_url: str, **options: Any) -> asyncpg.Pool:
    """Connect when a process starts: wait without limit for a Postgres that is away or unfit."""
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


@contextmanager
def wait_out_outage(logger: Any = log) -> Iterator[None]:
    """Log and suppress the error of a Postgres that is away, for a loop that tries again."""
    try:
        yield
    except ERRORS as error:
        if not is_away(error):
            raise
        logger.warning("postgres_away", error=type(error).__name__)


def error_name(error: BaseException) -> str:
    """The error's type and constraint, without the row that Postgres quotes: it may contain a code."""
    return " ".join(filter(None, [type(error).__name__, getattr(error, "constraint_name", None)]))


def is_away(error: BaseException) -> bool:
    """Whether Postgres can't be reached or used, as opposed to an error of a statement."""
    if isinstance(error, asyncpg.InterfaceError):
        text = str(error)
        return "connection is closed" in text or "connection was closed" in text or "pool is clos" in text
    return isinstance(error, _AWAY)


async def unfit_reason(connection: asyncpg.Connection) -> str | None:
    """Why this server can't be the record, and what to change; None if it can."""
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
    return next((reason for is_unfit, reason in reasons if is_unfit), None)


async def _keep(_connection: asyncpg.Connection) -> None:
    """Reset nothing: asyncpg's default costs a round trip, and no statement of ours changes the session."""


async def _check(connection: asyncpg.Connection) -> None:
    if reason := await unfit_reason(connection):
        log.error("postgres_unfit", reason=reason)
        raise UnfitDatabase(reason)
