"""Apply the files of `sql/migrations` in order, each once. script_versions.py calls this for `scrip migrate` and
`scrip run`; checks.py reports what is missing. The table `migrations` has each file's digest: a released file never
changes. All versions use the same `_LOCK`."""

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
_file_name = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")


class MigrationError(RuntimeError):
    """The database and the migration files don't match. Nothing was changed."""


class Migration(NamedTuple):
    number: int
    name: str
    sql: str
    sha256: str


async def apply_missing(connection: asyncpg.Connection, folder: Path = _FOLDER) -> list[str]:
    """Apply the missing migrations and return their names; set the bounds of the roles' sessions. Several processes may
    run this at once.

    A database that the next version has migrated needs none. Raises MigrationError, and WrongNumber if the database, or
    a process that uses it, does not fit this version.
    """
    files = read_migrations(folder)
    applied: list[str] = []
    while (migration := await _apply_next(connection, files)) is not None:
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


async def _apply_next(connection: asyncpg.Connection, files: list[Migration]) -> Migration | None:
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
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO migrations (number, name, sha256) VALUES ($1, $2, $3)",
            *(migration.number, migration.name, migration.sha256),
        )
        return migration
