"""Connections to Postgres, and how to tell an outage from an error. Every process and command connects here: processes
by a pool, which checks each connection, most commands by `connect_once`, which checks nothing. No statement may change
its session: connections return to the pool unreset, and a pooler shares them."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import asyncpg
import structlog
from asyncpg.cursor import Cursor
from asyncpg.pool import PoolConnectionProxy

from service.common.certificates import note_certificate
from service.common.tracebacks import find_reason
from service.engine.domain.errors import invalid
from service.engine.record.sessions import unbound_reason
from service.engine.record.shared_pool import SharedPool

log = structlog.get_logger()

Connection = asyncpg.Connection | PoolConnectionProxy
Database = asyncpg.Pool | Connection
"""The pool; or a connection, if a transaction is needed."""

MIN_VERSION = 14
CONNECT_S = 5.0
"""For a new connection. A pooler accepts one also while Postgres is away, and does not answer."""
LONG_S = 600.0
LONG = {"statement_timeout": f"{LONG_S:g}s"}
"""For statements that read much: comparisons and rebuilds."""
PAUSING = LONG | {"idle_in_transaction_session_timeout": f"{LONG_S:g}s"}
"""For transactions that wait for Redis between such statements."""
READING_S = 5.0
"""For statements whose extent a tenant chooses."""
FRESH_PLAN = {"plan_cache_mode": "force_custom_plan"}
"""For statements with long lists: a plan that was made while a table was small may compare each row with each name."""
BY_INDEX = {"enable_seqscan": "off", "plan_cache_mode": "force_generic_plan"}
"""For look-ups by key in tables that grow quickly: a plan that was made while a table was small reads all of it."""
IN_ORDER = {"enable_sort": "off"}
"""For rows in the order of an index: a sort would read all of them first. The planner prefers one where it expects few,
and expects none of a new workspace."""
UNNAMED = ""
"""The name of statements with a cursor (open_cursor): one with a name would stay in a pooler's session after the
transaction, and the next process that gives a statement this name would fail."""
_POOLED = "pgbouncer=true"
_FITNESS = """
SELECT current_setting('synchronous_commit'), current_setting('fsync'), current_setting('full_page_writes'),
  current_setting('default_transaction_read_only'), pg_is_in_recovery()"""
# With `local`, `remote_write` or `off`, a confirmed commit can be lost.
_DURABLE = ("on", "remote_apply")


class UnfitDatabase(RuntimeError):
    """This Postgres can't be the record. The message says what to change."""

    code = "unfit"


class UnboundSession(UnfitDatabase):
    """Sessions of this role, or through this pooler, lack what a start has to find. Waiting does not help."""


ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, UnfitDatabase)
"""Any call may raise these. InternalClientError: the connection broke during an operation."""
_AWAY = (
    OSError,  # TimeoutError among them
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InvalidAuthorizationSpecificationError,  # the password was changed: the process is to be restarted
    asyncpg.QueryCanceledError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,  # a primary that became a replica
    asyncpg.SerializationError,  # a replica had to remove what a statement was reading
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
    is_replica: bool = False,
    kind: type[asyncpg.Pool] = asyncpg.Pool,
) -> asyncpg.Pool:
    """A bounded pool. Each new connection is checked. Raises UnfitDatabase if the server is too old, may lose commits,
    or is read-only; UnboundSession if the role or the URL lacks a setting. Of a replica only the latter is checked."""
    url = _read_url(database_url)
    return await kind(
        url.pop("dsn"),
        **url,
        connection_class=asyncpg.Connection,
        record_class=asyncpg.Record,
        loop=None,
        max_queries=50_000,
        max_inactive_connection_lifetime=300.0,
        min_size=min_size,
        max_size=max_size,
        command_timeout=command_timeout_s,
        timeout=CONNECT_S,
        server_settings={"application_name": name},
        init=partial(_check, is_pooled(database_url), is_replica),
        reset=_keep,
    )


@asynccontextmanager
async def long_transaction(database: asyncpg.Pool) -> AsyncIterator[Connection]:
    """A transaction whose statements may take LONG_S in Postgres; asyncpg has a timeout of its own."""
    async with database.acquire() as connection, connection.transaction():
        await set_locally(connection, LONG)
        yield connection


@asynccontextmanager
async def bounded_read(database: asyncpg.Pool, field: str, advice: str) -> AsyncIterator[Connection]:
    """A transaction that reads as much as a request asks for: others wait for its connection. Raises Refusal `invalid`
    of this field, with the advice, if a statement takes more than READING_S."""
    try:
        async with database.acquire() as connection, connection.transaction(readonly=True):
            await set_locally(connection, {"statement_timeout": f"{READING_S:g}s"})
            yield connection
    except asyncpg.QueryCanceledError:
        raise invalid(field, f"would take the database more than {READING_S:g} s: {advice}") from None


async def set_locally(connection: Connection, settings: Mapping[str, str]) -> None:
    """Change settings for this transaction."""
    await connection.execute("; ".join(f"SET LOCAL {setting} = '{value}'" for setting, value in settings.items()))


async def open_cursor(connection: Connection, statement: str, *values: Any) -> Cursor:
    """A cursor of a statement, in the caller's transaction."""
    prepared = await connection.prepare(statement, name=UNNAMED)
    return await prepared.cursor(*values)


async def count_changed(database: Database, statement: str, *values: Any) -> int:
    """Run a statement that changes rows, and return their number."""
    return int((await database.execute(statement, *values)).rpartition(" ")[2])


async def connect_once(database_url: str, *, name: str = "scrip", **options: Any) -> asyncpg.Connection:
    """One connection, of which nothing is checked."""
    options = {"timeout": CONNECT_S, **options}
    return await asyncpg.connect(**_read_url(database_url) | options, server_settings={"application_name": name})


def count_waiting(pool: asyncpg.Pool) -> int:
    """How many callers wait for a connection of the pool; asyncpg doesn't say."""
    queue: Any = pool._queue  # noqa: SLF001
    in_turn = pool.gate.all_waiting() if isinstance(pool, SharedPool) else 0
    return in_turn + (sum(not waiter.done() for waiter in queue._getters) if queue else 0)  # noqa: SLF001


def is_pooled(database_url: str) -> bool:
    """Whether the URL says that a transaction pooler answers there: each transaction may be in another session."""
    return _POOLED in database_url.partition("?")[2].split("&")


def _read_url(database_url: str) -> dict[str, Any]:
    """asyncpg's arguments. In another session the names of prepared statements mean nothing, or something else."""
    address, _, query = database_url.partition("?")
    kept = "&".join(part for part in query.split("&") if part != _POOLED)
    statements = {"statement_cache_size": 0} if is_pooled(database_url) else {}
    return {"dsn": f"{address}?{kept}" if kept else address, **statements}


async def connect_with_retries(database_url: str, **options: Any) -> asyncpg.Pool:
    """Connect when a process starts: wait without limit for a Postgres that is away or unfit. Raises UnboundSession,
    what Postgres says of a role or password that it refuses, and the errors of `lacks_tls` and `lacks_files`."""
    pause_s = 0.1
    while True:
        try:
            return await connect(database_url, **options)
        except ERRORS as error:
            is_refused = isinstance(error, UnboundSession | asyncpg.InvalidAuthorizationSpecificationError)
            if is_refused or lacks_tls(error) or lacks_files(error) or not is_away(error):
                raise
            log.warning("waiting_for_postgres", reason=find_reason(error))
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


def lacks_tls(error: BaseException) -> bool:
    """Whether the server has no TLS, and `sslmode` demands it."""
    return isinstance(error, ConnectionError) and "rejected SSL upgrade" in str(error)


def lacks_files(error: BaseException) -> bool:
    """Whether a file for TLS can't be read, or does not fit the server; not whether TLS broke off."""
    if isinstance(error, ssl.SSLError):
        return not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError)
    return isinstance(error, PermissionError) and error.filename is not None


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


async def _check(pooled: bool, is_replica: bool, connection: asyncpg.Connection) -> None:
    if not is_replica:
        note_certificate("postgres", connection._transport)  # type: ignore[attr-defined] # noqa: SLF001
    if reason := await unbound_reason(connection, pooled):
        log.error("postgres_unfit", reason=reason)
        raise UnboundSession(reason)
    if not is_replica and (reason := await unfit_reason(connection)):
        log.error("postgres_unfit", reason=reason)
        raise UnfitDatabase(reason)
