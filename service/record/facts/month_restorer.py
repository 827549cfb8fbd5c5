"""Bring archived months back to Postgres (docs/decisions/0053-archive.md)."""

from datetime import date
from pathlib import Path
from typing import NamedTuple

import asyncpg

from service.formats import month_archive
from service.formats.month_archive import DamagedArchive, Manifest
from service.record.facts.month_archiver import (
    Kept,
    Progress,
    check_deletions,
    fact_partitions,
    load_file,
    moving,
    read_archived,
    with_locks,
)
from service.record.queries import query

_USERS = ("assignments", "unassignments", "redemptions", "rollbacks")
"""The facts that name users."""


class ArchivedMonth(NamedTuple):
    """A month's directory, and whether this database has the month in files."""

    month: date
    folder: Path
    manifest: Manifest
    is_archived: bool

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.manifest.files)

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.manifest.files)


class MonthRestorer:
    """Brings months back, each in one transaction:

    1. Before all months: compare each manifest with the digest that Postgres has, and each file with its manifest.
    2. Load the month's files into tables of their own.
    3. Replace users who were deleted meanwhile, and partitions from which workspaces have moved. Attach the tables,
       and remove what was kept instead of them.

    A command that dies leaves each month in one place; the next one goes on.
    """

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def read_months(self, folder: Path) -> list[ArchivedMonth]:
        """The months of a directory, or of this month's directory. Raises DamagedArchive if one is not of this
        database."""
        known = await read_archived(self._connection)
        months = list[ArchivedMonth]()
        for path in month_archive.list_months(folder):
            manifest, digest = month_archive.read_manifest(path)
            month = month_archive.parse_month(manifest.month)
            if known.get(month, digest) != digest:
                raise DamagedArchive(
                    f"{path} has another manifest than the archive of {manifest.month}: it is damaged, or of another "
                    "database"
                )
            months.append(ArchivedMonth(month, path, manifest, month in known))
        return months

    def check(self, months: list[ArchivedMonth], progress: Progress) -> None:
        """Read all files, and report their bytes. Raises DamagedArchive."""
        for month in months:
            for file in month.manifest.files:
                month_archive.check_file(month.folder, file, progress)

    async def restore(self, archived: ArchivedMonth, progress: Progress) -> None:
        """Bring a month back; `progress` is told of each row. Raises Kept, DamagedArchive."""
        month = archived.month
        async with moving(self._connection):
            if month not in await read_archived(self._connection):
                raise Kept("another command has restored it")
            await self._connection.execute(query("create_month"), month)
            files = {file.table: file for file in archived.manifest.files}
            tables = await fact_partitions(self._connection, month)
            for table, partition in tables:
                rows = await load_file(self._connection, archived.folder, files[table], partition, progress)
                if rows != files[table].rows:
                    raise DamagedArchive(f"{archived.folder / files[table].name} has {rows} rows")
            await with_locks(self._connection, lambda: self._connection.execute(query("lock_deletions_and_moves")))
            await check_deletions(self._connection)
            if await self._connection.fetchval(query("is_any_moving")):
                raise Kept("workspaces are being moved: run the command again when `scrip move` has ended")
            for table, _ in tables:
                await self._connection.execute(query("place_in_partition"), table, month)
            for table in _USERS:
                await self._connection.execute(query("erase_in_month"), table, month)
            for name in ("attach_month", "unsettle_month"):
                await with_locks(self._connection, lambda name=name: self._connection.execute(query(name), month))
