"""The versions of the program that use this database: their scripts, and number of formats. script_versions.py stores
and reads scripts; every start checks the number. Another version reads these rows, too (docs/upgrading.md)."""

from collections.abc import Collection, Mapping
from typing import ClassVar

import msgspec

from service.engine.formats import key_names
from service.engine.formats.number import FORMAT_NUMBER, may_run_beside
from service.engine.record.pool import Database
from service.engine.record.processes import VERSION_STAYS
from service.engine.record.queries import query

KEPT = 3
"""So many versions that migrated last keep their scripts without a process: one can go back to them."""


class UnusableRecord(RuntimeError):
    """The program and the database don't match. The message says what to do."""

    code: ClassVar[str]


class WrongNumber(UnusableRecord):
    """The database, or a process on it, is of a version that can't run beside this one."""

    code = "wrong_version"


async def check_number(database: Database) -> None:
    """Raises WrongNumber if the version that migrated this database is too old or too new for this one;
    asyncpg.UndefinedTableError without tables."""
    _refuse_number(await database.fetchval(query("read_number")))


def _refuse_number(number: int | None) -> None:
    """Raises WrongNumber if this is the number of a database that this version can't use. None fits: it is new."""
    if number is None or may_run_beside(number):
        return
    other = f"First use one with formats {number + 1}" if number < FORMAT_NUMBER else f"Use one with formats {number}"
    raise WrongNumber(
        f"the database has formats {number}, and this version has formats {FORMAT_NUMBER}: only versions next to each "
        f"other fit. {other} (docs/upgrading.md)."
    )


async def raise_number(database: Database) -> None:
    """Store this version's number, unless the database has a larger one."""
    await database.execute(query("raise_number"), FORMAT_NUMBER)


async def check_running(database: Database) -> None:
    """Raises WrongNumber if a process runs that can't run beside this version."""
    for row in await database.fetch(query("running_numbers"), VERSION_STAYS):
        if not may_run_beside(row["number"]):
            raise WrongNumber(
                f"a process with formats {row['number']} still runs, and this version has formats {FORMAT_NUMBER}. "
                f"Stop it first; one that was killed counts as stopped after {VERSION_STAYS.seconds} s."
            )


async def needed_versions(database: Database) -> Collection[str]:
    """Stored versions of this layout whose scripts Redis needs. Raises WrongNumber as check_number."""
    (row,) = await database.fetch(query("needed_versions"), key_names.LAYOUT, VERSION_STAYS)
    _refuse_number(row["number"])
    return row["needed"]


async def store_scripts(
    database: Database, version: str, templates: Mapping[str, str], layout: str = key_names.LAYOUT
) -> None:
    """Store the scripts of the version that migrates, and delete those that nothing needs."""
    await database.execute(query("store_scripts"), version, layout, msgspec.json.encode(templates).decode())
    await database.execute(query("drop_old_scripts"), KEPT, VERSION_STAYS)


async def stored_versions(database: Database) -> list[str]:
    """The versions of this layout whose scripts are stored; first the last that migrated."""
    return [row["version"] for row in await database.fetch(query("stored_versions"), key_names.LAYOUT)]


async def read_scripts(database: Database, version: str) -> dict[str, str] | None:
    """A version's templates by name; None if none are stored."""
    text = await database.fetchval(query("read_scripts"), version)
    return None if text is None else msgspec.json.decode(text, type=dict[str, str])
