"""Read configuration changes since a version, for the worker, which writes them to a Redis that lacks them. restorer.py
and projection_catchup.py call this. They rely on the order: workspaces, books and users before codes, and codes by
version."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from itertools import groupby
from typing import Any, NamedTuple, cast
from uuid import UUID

import msgspec
from asyncpg import Pool, Record

from service.engine.domain.configuration import BookRow, CodeRow, UserRow, WorkspaceRow
from service.engine.record.archived_books import read_history_start
from service.engine.record.configuration_rows import book_row, code_row, user_row, workspace_row
from service.engine.record.pool import LONG_S, PAUSING, Connection, set_locally
from service.engine.record.queries import query

_PAGE = 10_000
"""Rows in one read. Most versions have fewer: one writes up to 5,000."""

Row = WorkspaceRow | BookRow | UserRow | CodeRow


class Unreadable(NamedTuple):
    """A row that this version of the service can't read, and the error; `book` and its id if it is a book's."""

    kind: str
    workspace: int
    version: int
    book: int | None
    book_id: UUID | None
    error: Exception


class Change(NamedTuple):
    """Rows of one kind, codes also of one version. After these, Redis has everything up to `version`."""

    version: int
    rows: Sequence[Row]
    unreadable: Sequence[Unreadable] = ()


async def changes_since(database: Pool, partition: int, version: int) -> AsyncGenerator[Change, None]:
    """Yield every row newer than the version (0: everything), page by page; without codes of archived books.

    Workspaces, books and users come first, as codes depend on them; then codes by version. After an abort, continue
    from the last complete version. All are read in one snapshot: a book that changes during it comes before its codes,
    as it was; its new version is above the last one here. Close it (`contextlib.aclosing`): it holds a transaction.
    """
    async with database.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        last = cast("int", await connection.fetchval(query("read_config_version"), partition))
        if last <= version:
            return
        await set_locally(connection, PAUSING)
        async for change in _settings(connection, partition, version, last):
            yield change
        # Everything: begin with the oldest book's codes, and allow for rows of archived books between others.
        codes_after = version or (await read_history_start(connection, partition)).version
        async for page in _pages(connection, "changed_codes", partition, codes_after, last):
            for changed_in, records in groupby(page, key=lambda record: record["version"]):
                yield _readable("codes", changed_in, list(records), code_row)
        yield Change(last, [])


async def all_settings(database: Pool, partition: int) -> AsyncGenerator[Change, None]:
    """As changes_since, everything but codes. Close it: it holds a transaction."""
    async with database.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        await set_locally(connection, PAUSING)
        last = cast("int", await connection.fetchval(query("read_config_version"), partition))
        async for change in _settings(connection, partition, 0, last):
            yield change


async def _settings(connection: Connection, partition: int, version: int, last: int) -> AsyncIterator[Change]:
    for name, row_of in _FIRST:
        async for page in _pages(connection, name, partition, version, last):
            yield _readable(name.removeprefix("changed_"), version, page, row_of)


def _readable(kind: str, version: int, page: Sequence[Record], row_of: Callable[[Record], Row]) -> Change:
    """A page's rows, and separately those that can't be read."""
    rows, unreadable = list[Row](), list[Unreadable]()
    for record in page:
        try:
            rows.append(row_of(record))
        except (ValueError, TypeError, LookupError, msgspec.MsgspecError) as error:
            book = (record["book"], record["book_id"]) if row_of is book_row else (None, None)
            unreadable.append(Unreadable(kind, record["workspace"], record["version"], *book, error))
    return Change(version, rows, unreadable)


_FIRST: Sequence[tuple[str, Callable[[Record], Row]]] = (
    ("changed_workspaces", workspace_row),
    ("changed_books", book_row),
    ("changed_users", user_row),
)


async def _pages(
    connection: Connection, name: str, partition: int, after: int, last: int, *more: list[int]
) -> AsyncIterator[list[Any]]:
    """Pages of complete versions. A version that fills a page is read again with a larger one."""
    limit = _PAGE
    while after < last:
        page = await connection.fetch(query(name), partition, after, last, limit, *more, timeout=LONG_S)
        if not page:
            return
        if len(page) == limit:
            cut = page[-1]["version"]
            page = [record for record in page if record["version"] < cut]
            if not page:
                limit *= 2
                continue
        limit = _PAGE
        yield page
        after = page[-1]["version"]
