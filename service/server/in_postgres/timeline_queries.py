"""The events of a code, a user, an order or a request, for operators. timelines.py calls this, and flash_sale.py for
what was sold. TimelineEvent has the query's columns, in their order; timelines.py copies its fields by name."""

from typing import Literal
from uuid import UUID

import msgspec
from asyncpg import Pool

from service.engine.domain.uuids import first_id, last_id
from service.engine.record.pool import Database
from service.engine.record.queries import query
from service.server.in_postgres.code_pages import ListedCode, find_code, listed_codes

MAX_EVENTS = 200
AROUND_MS = 1000
"""Before and after a request's id, which contains its time."""

Kind = Literal["code", "user", "order", "key"]
_EVENTS = {"code": "events_of_code", "user": "events_of_user", "order": "events_of_order", "key": "events_of_key"}
_KNOWN = {"code": "has_code", "user": "has_user", "order": "has_order", "key": "has_key"}


class TimelineEvent(msgspec.Struct, frozen=True):
    """A fact: `kind` is A, U, R, B or C as in docs/internals/formats.md. Fields that a kind lacks are None. Who changed
    a card is its `key_id` or `person`."""

    kind: Literal["A", "U", "R", "B", "C"]
    epoch: int
    seq: int
    book_id: UUID | None
    code: str
    user_id: str
    at_ms: int
    ip: str | None
    user_agent: str | None
    order_id: str | None
    redemption_id: str | None
    value_e4: int | None
    currency: str | None
    discount_e4: int | None
    restore: bool | None
    reason: str | None
    change: Literal["credited", "closed"] | None
    balance_after_e4: int | None
    key_id: UUID | None
    key_name: str | None
    person: str | None


class BookSales(msgspec.Struct, frozen=True):
    """A book's valid redemptions, as recorded."""

    standing: int
    users: int
    orders: int


async def events_of(pool: Pool, workspace: int, kind: Kind, name: str) -> list[TimelineEvent]:
    """The events of a code, user, order or Idempotency-Key; newest first, at most MAX_EVENTS."""
    return await _facts(pool, workspace, _EVENTS[kind], name)


async def events_around(database: Database, workspace: int, at_ms: int) -> list[TimelineEvent]:
    """Redemptions within a second of the time in a request's id."""
    first, last = first_id(at_ms - AROUND_MS), last_id(at_ms + AROUND_MS)
    return await _facts(database, workspace, "events_around", first, last)


async def is_known(database: Database, workspace: int, kind: Kind, name: str) -> bool:
    return bool(await database.fetchval(query(_KNOWN[kind]), workspace, name))


async def codes_with_prefix(database: Database, workspace: int, prefix: str, limit: int) -> list[str]:
    """The first codes, in order, that begin with this text in upper case."""
    return [row["code"] for row in await database.fetch(query("codes_with_prefix"), workspace, prefix, limit)]


async def recorded_code(pool: Pool, workspace: int, code: str) -> tuple[ListedCode, int] | None:
    """A code as recorded, and when it was created, in ms since 1970."""
    place = await find_code(pool, workspace, code)
    if place is None:
        return None
    rows = await listed_codes(pool, workspace, place.book, 1, place.position + 1)
    return rows[0], place.created_at_ms


async def sold_of_book(database: Database, workspace: int, book: int) -> BookSales:
    return BookSales(*await database.fetchrow(query("sold_of_book"), workspace, book))  # type: ignore[misc]


async def _facts(database: Database, workspace: int, name: str, *of: str | UUID) -> list[TimelineEvent]:
    """The newest facts of the events that the query of this name finds."""
    events = await database.fetch(query(name), workspace, *of, MAX_EVENTS)
    ids = [row["epoch"] for row in events], [row["seq"] for row in events]
    rows = await database.fetch(query("facts_of_timeline"), workspace, *ids, MAX_EVENTS)
    return [TimelineEvent(*row) for row in rows]
