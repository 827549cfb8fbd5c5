"""Errors that a user can fix in the settings or the servers. They end a command with one line, without a traceback.
main.py calls `explain`, and `scrip api` `check_servers`; commands that begin with Postgres run `with_record`."""

import asyncio
import errno
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import asyncpg
import hiredis

from service.common import config
from service.common.config import Settings
from service.common.running_service import Unusable, find_servers, find_service
from service.common.tracebacks import find_missing_right, find_reason
from service.engine.hot.discovery import AccessRefused, advise_access, check_access
from service.engine.record.actor import Actor, current_actor
from service.engine.record.login_roles import check_role
from service.engine.record.partitions.partition_rows import check_partitions
from service.engine.record.pool import (
    UnfitDatabase,
    connect_once,
    connect_with_retries,
    is_away,
    lacks_files,
    lacks_tls,
)
from service.engine.record.program_versions import UnusableRecord
from service.engine.record.sessions import POOLER

_PARAMETER_ERRORS = (
    asyncpg.UndefinedObjectError,
    asyncpg.CantChangeRuntimeParamError,
    asyncpg.InvalidParameterValueError,
)
"""Postgres's answers to what a URL sets for the session: an unknown name, one of the server's, a wrong value."""


def explain(error: Exception) -> str | None:
    """Return a line with the fault and its remedy; None if the settings and servers are not the cause."""
    return _explain_refusal(error) or _explain_address(error) or _explain_outage(error)


def _explain_refusal(error: Exception) -> str | None:
    """As explain, for a server that is reached, and refuses what is asked of it."""
    if isinstance(error, UnusableRecord | UnfitDatabase):
        return f"{error.code}: {error}"
    if isinstance(error, AccessRefused) or (isinstance(error, hiredis.ReplyError) and find_missing_right(error)):
        return f"unavailable: Redis refuses access ({error}). {advise_access(str(error))}"
    if isinstance(error, asyncpg.UndefinedTableError | asyncpg.UndefinedColumnError | asyncpg.UndefinedFunctionError):
        return f"not_migrated: the database lacks a part of this version's schema ({error}). Run `scrip migrate`."
    access_errors = (
        asyncpg.InvalidAuthorizationSpecificationError
        | asyncpg.InvalidCatalogNameError
        | asyncpg.ProtocolViolationError  # PgBouncer's answer to a wrong password or an unknown database
    )
    if isinstance(error, access_errors | asyncpg.InsufficientPrivilegeError | asyncpg.ClientConfigurationError):
        lacks_right = isinstance(error, asyncpg.InsufficientPrivilegeError)
        remedy = "Use the DATABASE_URL of `scrip migrate`." if lacks_right else "Check DATABASE_URL."
        return f"unavailable: the database refuses access ({error}). {remedy}"
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        return f"unfit: the database can't be changed ({error}). Name the primary in DATABASE_URL."
    return None


def _explain_outage(error: Exception) -> str | None:
    """As explain, for a server that is away. Errors of files and of pipes do not count."""
    from service.engine.hot.connection import Broken

    is_local = isinstance(error, OSError) and (error.filename is not None or error.errno == errno.EPIPE)
    if is_local or not (isinstance(error, Broken) or is_away(error)):
        return None
    return (
        f"unavailable: Redis or Postgres can't be reached, or a connection broke ({find_reason(error)}). "
        "`scrip doctor` names the server. Then run the command again."
    )


def _explain_address(error: Exception) -> str | None:
    """As explain, for everything in DATABASE_URL but the login."""
    if lacks_tls(error):
        return "unavailable: the database has no TLS, which sslmode in DATABASE_URL demands."
    if lacks_files(error):
        return (
            f"unavailable: the connection to the database can't be made safe ({error}). Correct the host and the files "
            "in DATABASE_URL; without sslcert and sslkey, those in ~/.postgresql are read."
        )
    if isinstance(error, asyncpg.DuplicatePreparedStatementError | asyncpg.InvalidSQLStatementNameError):
        return f"unavailable: {POOLER}"  # of another process that did not name it either
    if isinstance(error, _PARAMETER_ERRORS) and "parameter" in str(error):  # no statement of ours sets another one
        return f"unavailable: the database refuses a parameter ({error}). Correct what DATABASE_URL has after its ?."
    return None


def with_record(command: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a command with a connection to the service's database first. Raises Unusable, UnusableRecord."""

    @wraps(command)
    def run(*given: Any, **options: Any) -> None:
        asyncio.run(_run(command, *given, **options))

    return run


async def _run(command: Callable[..., Coroutine[Any, Any, None]], *given: Any, **options: Any) -> None:
    """Connect to a database that fits this version, and run the command. The audit then names a command."""
    service = find_service(config.load(), "DATABASE_URL")
    try:
        connection = await connect_once(service.database_url, name="scrip command")
    except OSError as error:
        if _explain_address(error):
            raise
        remedy = "Start `scrip run` again, and retry." if service.is_from_file else "Check that it runs."
        raise Unusable(f"unavailable: the database can't be reached ({find_reason(error)}). {remedy}") from error
    try:
        await check_partitions(connection)
        current_actor.set(Actor("command"))
        await command(connection, *given, **options)
    finally:
        await connection.close()


async def check_servers(settings: Settings) -> None:
    """For `scrip api`: wait until the database is reachable, then check that it fits this version and has the API's
    role, and that Redis does not refuse the login. Raises UnusableRecord, Unusable, AccessRefused."""
    from service.server.in_redis.key_messages import CHANNEL

    redis_url, database_url = find_servers(settings)
    async with await connect_with_retries(database_url, name="scrip start", min_size=1, max_size=1) as pool:
        await check_partitions(pool)
        await check_role(pool, "api")
    await check_access(redis_url, "PUBLISH", CHANNEL, "")  # the worker's user may not; other processes read the keys
