"""Apply the files of `sql/migrations` in order, each once. script_versions.py calls this for `scrip migrate` and
`scrip run`; checks.py reports what is missing. The table `migrations` has each file's digest: a released file never
changes. All versions use the same `_LOCK`."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg
import structlog

from service.common.resources import SQL_DIR
from service.engine.record.program_versions import check_number, check_running, raise_number
from service.engine.record.sessions import bound_roles

log = structlog.get_logger()

_FOLDER = SQL_DIR / "migrations"
_LOCK = 7_265_728_112  # any number that nothing else in this database locks
_TABLE = """
CREATE TABLE IF NOT EXISTS migrations (
    number int PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()
)"""
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '5s'"
"""While a statement waits for a table's lock, all later statements on the table wait for it."""
_POLL_S = 0.2
"""Between two looks at what blocks a migration: once it has failed, Postgres no longer names that."""
_BLOCKERS = r"""
SELECT pid, application_name, usename, xact_start, left(regexp_replace(query, '\s+', ' ', 'g'), 60) AS query
FROM unnest(pg_blocking_pids($1)) AS pid LEFT JOIN pg_stat_activity USING (pid) ORDER BY xact_start, pid"""
_file_name = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")


class MigrationError(RuntimeError):
    """A migration can't be applied, or the database does not match the files. Nothing was changed."""


class Migration(NamedTuple):
    number: int
    name: str
    sql: str
    sha256: str


async def apply_missing(
    connection: asyncpg.Connection, observer: asyncpg.Connection, folder: Path = _FOLDER
) -> list[str]:
    """Apply the missing migrations and return their names; set the bounds of the roles' sessions. Several processes may
    run this at once. `observer` is another connection to the same database.

    A database that the next version has migrated needs none. Raises MigrationError, and WrongNumber if the database, or
    a process that uses it, does not fit this version.
    """
    files = read_migrations(folder)
    applied: list[str] = []
    while (migration := await _apply_next(connection, observer, files)) is not None:
        applied.append(migration.name)
    async with _alone(connection):
        for statement in await bound_roles(connection):
            log.warning("sessions_not_bounded", statement=statement)
    return applied


async def missing(connection: asyncpg.Connection) -> list[str]:
    """The names of missing migrations. Raises MigrationError if one doesn't match, WrongNumber as check_number."""
    files = read_migrations(_FOLDER)
    if await connection.fetchval("SELECT to_regclass('migrations')") is None:
        return [migration.name for migration in files]
    if await _has_number(connection):
        await check_number(connection)
    return [migration.name for migration in files[await _applied(connection, files) :]]


def read_migrations(folder: Path) -> list[Migration]:
    """The files in order. Raises MigrationError if a number is missing or duplicated."""
    migrations: list[Migration] = []
    for path in sorted(folder.glob("*.sql")):
        match = _file_name.match(path.name)
        if match is None:
            raise MigrationError(f"{path.name} is not named NNNN_name.sql")
        if int(match[1]) != len(migrations) + 1:
            raise MigrationError(f"{path.name} can't follow {len(migrations):04d}: numbers go from 0001, without gaps")
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        migrations.append(Migration(len(migrations) + 1, path.stem, content.decode(), sha256))
    return migrations


async def _has_number(connection: asyncpg.Connection) -> bool:
    """Whether the file that makes the table of the number of formats is applied."""
    return await connection.fetchval("SELECT to_regclass('formats')") is not None


async def _applied(connection: asyncpg.Connection, files: list[Migration]) -> int:
    """The number of applied migrations; the next version's may follow those of the files. Raises MigrationError if one
    is not the file's."""
    known = await connection.fetch("SELECT number, name, sha256 FROM migrations ORDER BY number")
    for row, migration in zip(known, files, strict=False):
        if tuple(row) != (migration.number, migration.name, migration.sha256):
            raise MigrationError(
                f"the database has {row['name']}, made from another file than this version's {migration.name}. "
                "Use an empty database, or the version that made it; a change of the schema is a new file"
            )
    return len(known)


@asynccontextmanager
async def _alone(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """A transaction that waits for those of other processes, and may take long."""
    async with connection.transaction():
        await connection.execute("SET LOCAL statement_timeout = 0")
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        yield


@asynccontextmanager
async def _naming_blockers(
    connection: asyncpg.Connection, observer: asyncpg.Connection, name: str
) -> AsyncIterator[None]:
    """Raises MigrationError, which names the sessions that had a lock, if a statement waits too long for it."""
    pid = await connection.fetchval("SELECT pg_backend_pid()")
    seen: list[asyncpg.Record] = []

    async def watch_blockers() -> None:
        while True:
            await asyncio.sleep(_POLL_S)
            if rows := await observer.fetch(_BLOCKERS, pid):
                seen[:] = rows

    looking = asyncio.create_task(watch_blockers())
    try:
        yield
    except asyncpg.LockNotAvailableError as error:
        sessions = "; ".join(map(_describe_session, seen)) or "a session that has ended"
        pids = " or ".join(f"SELECT pg_terminate_backend({row['pid']})" for row in seen if row["pid"])
        end = f", or end them as an administrator ({pids})" if pids else ""
        raise MigrationError(
            f"{name} waited too long for a lock, and changed nothing. Blocked by {sessions}. Wait until they end{end}"
        ) from error
    finally:
        looking.cancel()
        await asyncio.wait([looking])


def _describe_session(row: asyncpg.Record) -> str:
    if not row["pid"]:
        return "a prepared transaction (pg_prepared_xacts)"
    since = f", in a transaction since {row['xact_start']:%Y-%m-%d %H:%M:%S} UTC" if row["xact_start"] else ""
    return f"pid {row['pid']} ({row['application_name'] or 'no name'}, user {row['usename']}{since}): {row['query']}"


async def _apply_next(
    connection: asyncpg.Connection, observer: asyncpg.Connection, files: list[Migration]
) -> Migration | None:
    """Apply the first missing migration in its own transaction; None if none is missing."""
    async with _alone(connection):
        await connection.execute(_TABLE)
        await connection.execute(_LOCK_TIMEOUT)
        if await _has_number(connection):
            await check_number(connection)
            await check_running(connection)
            await raise_number(connection)
        applied = await _applied(connection, files)
        if applied >= len(files):
            return None
        migration = files[applied]
        async with _naming_blockers(connection, observer, migration.name):
            await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO migrations (number, name, sha256) VALUES ($1, $2, $3)",
            *(migration.number, migration.name, migration.sha256),
        )
        return migration
