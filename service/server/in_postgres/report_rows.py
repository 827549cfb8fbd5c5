"""What reports read: roll-ups of facts, the first and last redemption of books, and the hourly counts of traffic
(docs/internals/decisions/0092-reports.md). reports.py calls this."""

from collections.abc import Collection
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple
from uuid import UUID

from asyncpg import Pool, Record

from service.engine.domain.times import LATEST_MS, to_datetime
from service.engine.record.pool import Database, bounded_read, open_cursor
from service.engine.record.queries import query

PAGE = 250
"""Rows that are decoded at once, while nothing else runs."""
Interval = Literal["hour", "day", "week"]
Grouping = Literal["none", "book", "tag"]


class Span(NamedTuple):
    """Whole intervals of a workspace's time zone."""

    workspace: int
    interval: Interval
    first: datetime
    last: datetime
    """The end of the last interval."""
    zone: str


class Groups(NamedTuple):
    """Which books, and how they are grouped."""

    grouping: Grouping
    book_id: UUID | None
    tag: str | None

    @property
    def has_all(self) -> bool:
        """Whether all of the workspace is one group."""
        return self == Groups("none", None, None)


class Sales(NamedTuple):
    """Redemptions of an interval, a group and a currency, '' for none. `name` is the book's id, or the tag."""

    from_ms: int
    name: str | None
    currency: str
    redemptions: int
    order_value: Decimal
    discount_amount: Decimal
    balance_spent: Decimal
    rolled_back: int
    new_users: int
    returning_users: int


class Liability(NamedTuple):
    """What happened to a book's cards in a day, and what was outstanding at its end. `name` is the book's id."""

    from_ms: int
    name: str
    currency: str
    issued: Decimal
    credited: Decimal
    spent: Decimal
    returned: Decimal
    closed: Decimal
    outstanding: Decimal


class Ends(NamedTuple):
    """A book's limit, and its first and last redemption. `from_ms` and `currency` are of the last: its interval."""

    book_id: str
    max_redemptions: int | None
    from_ms: int
    currency: str
    first_ms: int
    last_ms: int


class Steps(NamedTuple):
    """Recorded steps of an interval and a group."""

    from_ms: int
    name: str | None
    assigned: int
    redeemed: int


async def read_span(database: Database, workspace: int, interval: Interval, first: datetime, last: datetime) -> Span:
    """The intervals that have these times."""
    latest = to_datetime(LATEST_MS)
    row: Any = await database.fetchrow(query("read_report_bounds"), workspace, interval, first, last, latest)
    return Span(workspace, interval, row["first"], row["last"], row["time_zone"])


async def read_sales(pool: Pool, span: Span, groups: Groups, limit: int) -> list[Record]:
    """At most so many rows with the fields of Sales, by interval, group and currency. What is zero has no row."""
    return await _read_in_pages(pool, "read_sales", *span, *groups, limit)


async def read_ends(database: Database, span: Span, books: Collection[str]) -> list[Ends]:
    """Those of these books that have redemptions, all of them in Postgres."""
    rows = await database.fetch(query("read_ends_of_books"), span.workspace, span.interval, span.zone, list(books))
    return [Ends(*row) for row in rows]


async def read_recorded(pool: Pool, span: Span, groups: Groups, limit: int) -> list[Record]:
    """At most so many rows with the fields of Steps, by interval and group. What is zero has no row."""
    return await _read_in_pages(pool, "read_funnel", *span, *groups, limit)


async def read_liability(pool: Pool, span: Span, groups: Groups, limit: int) -> list[Record]:
    """At most so many rows with the fields of Liability, by day and book."""
    days = (span.workspace, span.first, span.last, span.zone)
    return await _read_in_pages(pool, "read_liability", *days, groups.book_id, limit, about="to")


async def _read_in_pages(pool: Pool, name: str, *args: Any, about: str = "groupBy") -> list[Record]:
    rows = list[Record]()
    async with bounded_read(pool, about, "ask for a shorter time, or one book") as connection:
        cursor = await open_cursor(connection, query(name), *args)
        while page := await cursor.fetch(PAGE):
            rows += page
    return rows


async def read_responses(database: Database, span: Span) -> dict[int, dict[str, int]]:
    """Counts of responses by name (service/server/answers/accounting.py), by the beginning of the interval in ms."""
    counts: dict[int, dict[str, int]] = {}
    for from_ms, name, count in await database.fetch(query("read_traffic_of_intervals"), *span):
        counts.setdefault(from_ms, {})[name] = count
    return counts
