"""Bring the database's schema forward: the files of `sql/migrations`, in order, each once."""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

import asyncpg

from service.common.resources import SQL_DIR

_LOCK = 7_265_728_112  # any number that no other user of this database locks
_TABLE = """
CREATE TABLE IF NOT EXISTS migrations (
    number int PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()
)"""
_file_name = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")


class MigrationError(RuntimeError):
    """The database and the migration files don't fit together; nothing was changed."""


class Migration(NamedTuple):
    """One file."""

    number: int
    name: str
    sql: str
    sha256: str


async def migrate(database_url: str, folder: Path = SQL_DIR / "migrations") -> list[str]:
    """Apply what is missing; the names applied. Any number of processes may do so at once."""
    wanted = read_migrations(folder)
    applied: list[str] = []
    connection = await asyncpg.connect(database_url, server_settings={"application_name": "scrip migrate"})
    try:
        while (migration := await _apply_next(connection, wanted)) is not None:
            applied.append(migration.name)
    finally:
        await connection.close()
    return applied


async def missing(connection: asyncpg.Connection, folder: Path = SQL_DIR / "migrations") -> list[str]:
    """The names of those that are not applied. Raises MigrationError where the others don't fit."""
    wanted = read_migrations(folder)
    if await connection.fetchval("SELECT to_regclass('migrations')") is None:
        return [migration.name for migration in wanted]
    return [migration.name for migration in wanted[await _applied(connection, wanted) :]]


def read_migrations(folder: Path) -> list[Migration]:
    """The files in order. Raises MigrationError where a number is missing or there twice."""
    found: list[Migration] = []
    for path in sorted(folder.glob("*.sql")):
        match = _file_name.match(path.name)
        if match is None:
            raise MigrationError(f"{path.name} is not named NNNN_name.sql")
        if int(match[1]) != len(found) + 1:
            raise MigrationError(f"{path.name} can't follow {len(found):04d}: numbers go from 0001, without gaps")
        content = path.read_bytes()
        found.append(Migration(len(found) + 1, path.stem, content.decode(), hashlib.sha256(content).hexdigest()))
    return found


async def _applied(connection: asyncpg.Connection, wanted: list[Migration]) -> int:
    """How many are applied. Raises MigrationError where one is not the file's."""
    known = await connection.fetch("SELECT number, name, sha256 FROM migrations ORDER BY number")
    for row, migration in zip(known, wanted, strict=False):
        if tuple(row) != (migration.number, migration.name, migration.sha256):
            raise MigrationError(
                f"the database has {row['name']}, made from another file than this version's {migration.name}. "
                "Use an empty database, or the version that made it; a change of the schema is a new file"
            )
    if len(known) > len(wanted):
        raise MigrationError(f"the database has {known[len(wanted)]['name']}, which this version doesn't know")
    return len(known)


async def _apply_next(connection: asyncpg.Connection, wanted: list[Migration]) -> Migration | None:
    """Apply the first that is missing, in a transaction of its own; None where none is."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute(_TABLE)
        applied = await _applied(connection, wanted)
        if applied == len(wanted):
            return None
        migration = wanted[applied]
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO migrations (number, name, sha256) VALUES ($1, $2, $3)",
            *(migration.number, migration.name, migration.sha256),
        )
        return migration
