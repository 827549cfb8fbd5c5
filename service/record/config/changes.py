"""What changed in the configuration since a version, for a Redis that has not seen it."""

from collections.abc import AsyncIterator, Callable, Sequence
from itertools import groupby
from typing import Any, NamedTuple, cast
from uuid import UUID

import msgspec
from asyncpg import Record

from service.domain.configuration import BookRow, CodeRow, UserRow, WorkspaceRow
from service.record.config import book_rows, code_rows, user_rows, workspace_rows
from service.record.pool import Database
from service.record.queries import query

_PAGE = 10_000
"""Rows read at a time; more than one version may write (5,000)."""

Row = WorkspaceRow | BookRow | UserRow | CodeRow


class Unreadable(NamedTuple):
    """A row that this version of the service can't read; `book` and its id where it is a book's."""

    kind: str
    workspace: int
    version: int
    book: int | None
    book_id: UUID | None


class Change(NamedTuple):
    """Rows of one kind, codes also of one version; with these, Redis has everything up to `version`."""

    version: int
    rows: Sequence[Row]
    unreadable: Sequence[Unreadable] = ()


async def changes_since(database: Database, partition: int, version: int) -> AsyncIterator[Change]:
    """Every row newer than the version (0: everything), in memory that doesn't grow with them.

    First the few that codes rest on (workspaces, books, users), then the codes in order of their versions: where it
    breaks off, it goes on from the last version that was complete. A row that changes meanwhile may be left out; it
    has a version past the last one given here then, and is found from there.
    """
    last = cast("int", await database.fetchval(query("read_config_version"), partition))
    if last <= version:
        return
    for name, row_of in _FIRST:
        async for page in _pages(database, name, partition, version, last):
            yield _readable(name.removeprefix("changed_"), version, page, row_of)
    async for page in _pages(database, "changed_codes", partition, version, last):
        for changed_in, records in groupby(page, key=lambda record: record["version"]):
            yield _readable("codes", changed_in, list(records), code_rows.row_of)
    yield Change(last, [])


def _readable(kind: str, version: int, page: Sequence[Record], row_of: Callable[[Record], Row]) -> Change:
    """A page's rows, but for those that can't be read."""
    rows, unreadable = list[Row](), list[Unreadable]()
    for record in page:
        try:
            rows.append(row_of(record))
        except (ValueError, TypeError, LookupError, msgspec.MsgspecError):
            book = (record["book"], record["book_id"]) if row_of is book_rows.row_of else (None, None)
            unreadable.append(Unreadable(kind, record["workspace"], record["version"], *book))
    return Change(version, rows, unreadable)


_FIRST: Sequence[tuple[str, Callable[[Record], Row]]] = (
    ("changed_workspaces", workspace_rows.row_of),
    ("changed_books", book_rows.row_of),
    ("changed_users", user_rows.row_of),
)


async def _pages(database: Database, name: str, partition: int, after: int, last: int) -> AsyncIterator[list[Any]]:
    """Pages of whole versions."""
    while after < last:
        page = await database.fetch(query(name), partition, after, last, _PAGE)
        if len(page) == _PAGE:
            cut = page[-1]["version"]
            page = [record for record in page if record["version"] < cut]
        if not page:
            return
        yield page
        after = page[-1]["version"]
