"""Move months of facts from Postgres to files (docs/decisions/0053-archive.md)."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import date
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any, NamedTuple

import asyncpg

from service.domain.times import from_ms
from service.formats import month_archive
from service.formats.month_archive import ArchivedFile, DamagedArchive, Manifest, month_name
from service.record.config.book_rows import mask_name
from service.record.pool import Connection, set_locally
from service.record.queries import query

YOUNG_DAYS = 30
"""A month stays this long after its newest fact: webhooks, which keep 14 days, and notices may still need it."""
MAX_NAMES = 10
LOCK_TRIES, LOCK_PAUSE_S = 60, 1.0
_SETTINGS = {
    "statement_timeout": "3600s",
    "idle_in_transaction_session_timeout": "3600s",
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
}
"""How times are written, and how long a table may take."""
_LOCK = {"lock_timeout": "500ms"}
"""Whoever comes after a statement that waits for a lock waits, too."""
_BOOKS = "books"

Progress = Callable[[int], None]
"""Is told of each number of rows, or of bytes, that is done."""


class Kept(Exception):
    """A month stays where it is. The message says why, and what to do."""


class Month(NamedTuple):
    """A month in Postgres with the number of its facts, and why it can't be archived, '' if it can."""

    month: date
    facts: int
    obstacle: str


class Sum(NamedTuple):
    """The number of a table's rows, and a sum over their contents."""

    rows: int
    contents: int


class MonthArchiver:
    """Moves a month, in one transaction:

    1. Stop if a book of the month is in use, or if something else may still need its facts.
    2. Write each table to a file, in a directory with a temporary name; read the file back into Postgres, and compare.
    3. Let nobody change the month, its books or its users. Repeat 1, and compare the tables with what was written.
    4. Keep what requests need (`archived_codes`), note the month in `archived_months`, and drop its partitions.
    5. After the commit, give the directory its name.

    A command that dies before the commit leaves the month in Postgres, and files that nobody needs. After the commit,
    the next command gives the directory its name, by the digest that Postgres has.
    """

    def __init__(self, connection: asyncpg.Connection, folder: Path) -> None:
        self._connection, self._folder = connection, folder

    async def finish_earlier(self) -> tuple[list[date], list[Path]]:
        """Name the directories of months that an earlier command moved; return these, and directories that it left."""
        known = await read_archived(self._connection)
        named, left = list[date](), list[Path]()
        for path in month_archive.list_partials(self._folder):
            try:
                manifest, digest = month_archive.read_manifest(path)
            except DamagedArchive:
                left.append(path)
                continue
            month = month_archive.parse_month(manifest.month)
            if known.get(month) == digest:
                self._name(path, month)
                named.append(month)
            else:
                left.append(path)
        return named, left

    async def months_before(self, before: date) -> list[Month]:
        """The months of facts before one that are in Postgres, in order."""
        rows = await self._connection.fetch(query("archivable_months"), before)
        return [await self._examine(row["month"]) for row in rows]

    async def move(self, month: Month, progress: Progress) -> None:
        """Move a month; `progress` is told of each fact twice. Raises Kept, OSError."""
        if month.obstacle:
            raise Kept(month.obstacle)
        if (self._folder / month_name(month.month)).exists():
            raise Kept(
                f"{self._folder / month_name(month.month)} exists, but this database has the month: the directory is "
                "of another database, or was restored. Move it away, or name another directory"
            )
        path = month_archive.partial_folder(self._folder, month.month)
        path.mkdir(parents=True)
        try:
            async with moving(self._connection):
                await self._move(path, month.month, progress)
        except Kept:
            rmtree(path)  # nothing was committed
            raise
        self._name(path, month.month)

    async def _move(self, path: Path, month: date, progress: Progress) -> None:
        """Steps 1 to 4. Raises Kept."""
        await check_deletions(self._connection)
        files, sums = await self._write(path, month, progress)
        name, at = month_name(month), from_ms(time.time_ns() // 1_000_000)
        digest = month_archive.write_manifest(path, Manifest(month_archive.NUMBER, name, at, files))
        month_archive.sync_folder(self._folder)
        await with_locks(self._connection, lambda: self._connection.execute(query("lock_month"), month))
        await check_deletions(self._connection)
        if obstacle := (await self._examine(month)).obstacle:
            raise Kept(obstacle)
        for partition, written in sums.items():
            if await _sum(self._connection, partition) != written:
                raise Kept("its facts have changed meanwhile: run the command again")
        for step in (("settle_month", month, digest), ("drop_month", month)):
            await with_locks(self._connection, lambda step=step: self._connection.execute(query(step[0]), *step[1:]))

    async def _examine(self, month: date) -> Month:
        rows = await self._connection.fetch(query("books_in_month"), month, YOUNG_DAYS)
        return Month(month, sum(row["facts"] for row in rows), _describe_obstacle(rows))

    async def _write(self, path: Path, month: date, progress: Progress) -> tuple[list[ArchivedFile], dict[str, Sum]]:
        """Write the month's files and read them back; return them, and what each partition had. Raises Kept."""
        files, sums = list[ArchivedFile](), dict[str, Sum]()
        for table, partition in await fact_partitions(self._connection, month):
            sums[partition] = await _sum(self._connection, partition)
            columns: list[str] = await self._connection.fetchval(query("fact_columns"), table)  # type: ignore[assignment]
            copy = partial(self._connection.copy_from_table, partition, columns=columns)
            file = await _write_file(path, table, columns, progress, copy)
            await self._connection.execute(query("begin_read_back"), table)
            rows = await load_file(self._connection, path, file, "read_back", progress)
            if rows != file.rows or await _sum(self._connection, "pg_temp.read_back") != sums[partition]:
                raise Kept("its facts have changed meanwhile, or a file does not have what was written: try again")
            files.append(file)
        copy = partial(self._connection.copy_from_query, query("archived_books").rstrip(";"), month)
        return [*files, await _write_file(path, _BOOKS, [], lambda _: None, copy)], sums

    def _name(self, path: Path, month: date) -> None:
        path.rename(path.with_name(month_name(month)))
        month_archive.sync_folder(self._folder)


async def read_archived(connection: Connection) -> dict[date, bytes]:
    """The months whose facts are in files, each with its manifest's digest, in order."""
    return dict(map(tuple, await connection.fetch(query("read_archived_months"))))


async def check_deletions(connection: Connection) -> None:
    """Raises Kept while a user is being deleted: the worker replaces the user fact by fact."""
    if await connection.fetchval(query("is_erasing")):
        raise Kept("users are being deleted: run the command again in a minute")


async def fact_partitions(connection: Connection, month: date) -> list[tuple[str, str]]:
    """The tables of facts, each with the name of a month's partition."""
    return [(name, partition) for name, partition in await connection.fetch(query("fact_tables"), month)]


async def load_file(connection: Connection, folder: Path, file: ArchivedFile, table: str, progress: Progress) -> int:
    """Copy a file into a table; return the number of rows. Raises DamagedArchive."""

    async def chunks() -> Any:
        for chunk in month_archive.read_chunks(folder, file):
            progress(chunk.count(b"\n"))
            yield chunk

    done = await connection.copy_to_table(table, source=chunks(), columns=file.columns, format="csv", header=True)
    return int(done.split()[1])


@asynccontextmanager
async def moving(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """The one transaction that moves a month. Raises Kept if another command does."""
    async with connection.transaction():
        await set_locally(connection, _SETTINGS)
        if not await connection.fetchval(query("begin_archiving")):
            raise Kept("another `scrip archive` is running")
        yield


async def with_locks(connection: asyncpg.Connection, act: Callable[[], Awaitable[Any]]) -> None:
    """Call `act`, which locks tables, again until it gets the locks at once. Raises Kept."""
    for _ in range(LOCK_TRIES):
        try:
            async with connection.transaction():
                await set_locally(connection, _LOCK)
                return await act()
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            await asyncio.sleep(LOCK_PAUSE_S)
    raise Kept("its tables are in use: end transactions of Postgres that last long, and run the command again")


async def _write_file(path: Path, table: str, columns: Sequence[str], progress: Progress, copy: Any) -> ArchivedFile:
    """Write what `copy`, of asyncpg, copies from Postgres."""
    name = f"{table}.csv.gz"
    with month_archive.open_file(path / name) as out:

        async def write(data: bytes) -> None:
            out.write(data)
            progress(data.count(b"\n"))

        done = await copy(output=write, format="csv", header=True)
    return ArchivedFile(name, table, list(columns), int(done.split()[1]), out.bytes, out.sha256)


async def _sum(connection: Connection, table: str) -> Sum:
    return Sum(*await connection.fetchrow(query("sum_of_table"), table))  # type: ignore[misc]


def _describe_obstacle(rows: Sequence[asyncpg.Record]) -> str:
    """Why a month with these books stays in Postgres, and what to do; '' if it need not."""
    for keeps, reason, remedy in _OBSTACLES:
        books = [row for row in rows if row["keeps"] == keeps]
        if books:
            names = ", ".join(map(_name_book, books[:MAX_NAMES]))
            more = f" and {len(books) - MAX_NAMES} more" if len(books) > MAX_NAMES else ""
            return f"{reason}: {names}{more}. {remedy}"
    return ""


_OBSTACLES = (
    ("unknown", "facts of books that don't exist", "Keep the month, or restore the books from a backup of Postgres."),
    (
        "used",
        "books in use",
        "A book leaves SCRIP_RETIRE_DAYS after its end, except in a test workspace: set its end, or try again later.",
    ),
    (
        "young",
        f"facts younger than {YOUNG_DAYS} days, or than answers that are kept under Idempotency-Keys",
        "Run the command again later.",
    ),
    ("gift", "orders that still have their gift", "Run the command again when they are older than `orderDays`."),
)
"""By `keeps` of books_in_month: the reason, and what to do."""


def _name_book(row: asyncpg.Record) -> str:
    if row["book_name"] is None:
        return f"number {row['book']} of workspace {row['workspace_name'] or row['workspace']}"
    return f"{mask_name(row['book_name'])} ({row['workspace_name']})"
