"""Histories, a page at a time, newest first. histories.py, exports.py and the console call this. Structs have the
query's columns, in their order. views.py renders PastRedemption for the API, delivery_rows.py reads it for webhooks.
What orders a page is in clients' cursors (page_cursors.py)."""

from datetime import UTC, datetime
from functools import partial
from typing import Literal
from uuid import UUID

import msgspec
from asyncpg import Pool

from service.engine.domain.field_types import Page
from service.engine.domain.sent_fields import with_columns
from service.engine.domain.uuids import LAST_ID, first_id
from service.engine.formats.events import SENT
from service.engine.record.pool import Database, count_changed
from service.engine.record.queries import query
from service.server.requests import page_cursors
from service.server.requests.webhook_protocol import KEEP_DAYS

KEEP_NOTICES_DAYS = 90
MOST_BACK = 100

_LAST_EVENT = (2**63 - 1, 2**63 - 1)
_LAST_TIME = datetime.max.replace(tzinfo=UTC)


@with_columns(SENT)
class PastRedemption(msgspec.Struct, frozen=True):
    """A recorded redemption. `book_id` is the book's outer id. What the client sent comes last, as texts."""

    redemption_id: UUID
    workspace: int
    book: int
    book_id: UUID | None
    code: str
    user_id: str
    order_id: str | None
    value_e4: int | None
    currency: str | None
    digits: int
    discount_e4: int
    redeemed_at_ms: int
    rolled_back_at_ms: int | None
    ip: str | None
    user_agent: str | None
    balance_after_e4: int | None


class HeldCoupon(msgspec.Struct, frozen=True):
    """A user's coupon, and since when."""

    code: str
    book: int
    at: datetime


async def redemption(database: Database, workspace: int, redemption_id: UUID) -> PastRedemption | None:
    row = await database.fetchrow(query("redemption"), workspace, redemption_id)
    return None if row is None else PastRedemption(*row)


async def _redemptions(
    name: str, database: Database, workspace: int, of: int | str, limit: int, cursor: str | None
) -> Page[PastRedemption]:
    """Redemptions of a book, a code or a user. Raises Refusal if the cursor is invalid."""
    (last,) = page_cursors.REDEMPTIONS.decode(cursor) or (LAST_ID,)
    return _redemption_page(await database.fetch(query(name), workspace, of, limit + 1, last), limit)


async def redemptions_of_book(
    pool: Pool, workspace: int, book: int, limit: int, cursor: str | None
) -> Page[PastRedemption]:
    """A book's redemptions. Raises Refusal if the cursor is invalid."""
    return await _redemptions("redemptions_of_book", pool, workspace, book, limit, cursor)


async def redemptions_of_code(
    pool: Pool, workspace: int, code: str, limit: int, cursor: str | None
) -> Page[PastRedemption]:
    """A code's redemptions. Raises Refusal if the cursor is invalid."""
    return await _redemptions("redemptions_of_code", pool, workspace, code, limit, cursor)


redemptions_of_user = partial(_redemptions, "redemptions_of_user")


async def redemptions_of_order(database: Database, workspace: int, order_id: str) -> list[PastRedemption]:
    """Those that have a place in the order, and the last MOST_BACK that were rolled back."""
    rows = await database.fetch(query("redemptions_of_order"), workspace, order_id, MOST_BACK)
    return [PastRedemption(*row) for row in rows]


async def gift_of_order(database: Database, workspace: int, order_id: str) -> str | None:
    """The code that the order was given; None for none."""
    return await database.fetchval(query("gift_of_order"), workspace, order_id)


class RedemptionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which redemptions of a workspace; None does not filter. Times, in ms, are from `since` on and before `until`."""

    since_ms: int | None
    until_ms: int | None
    book_id: UUID | None
    user_id: str | None


async def redemptions_of_workspace(
    wanted: RedemptionFilter, database: Database, workspace: int, limit: int, cursor: str | None
) -> Page[PastRedemption]:
    """Redemptions of all books; ids begin with times. Raises Refusal for an invalid cursor."""
    (last,) = page_cursors.REDEMPTIONS.decode(cursor) or (LAST_ID,)
    until = LAST_ID if wanted.until_ms is None else first_id(wanted.until_ms)
    bounds = (min(last, until), first_id(wanted.since_ms or 0), wanted.book_id)
    if wanted.user_id is None:
        rows = await database.fetch(query("redemptions_of_workspace"), workspace, limit + 1, *bounds)
    else:
        values = (workspace, limit + 1, *bounds, wanted.user_id)
        rows = await database.fetch(query("redemptions_of_user_between"), *values)
    return _redemption_page(rows, limit)


class StockNotice(msgspec.Struct, frozen=True):
    """A book ran low, or out, of free codes or of uses of its total; `epoch` and `seq` are its event's."""

    epoch: int
    seq: int
    notice: Literal["low", "out"]
    what: Literal["codes", "uses"]
    remaining: int
    at_ms: int


async def notices_of_book(pool: Pool, workspace: int, book: int, limit: int, cursor: str | None) -> Page[StockNotice]:
    """The book's stock notices. Raises Refusal if the cursor is invalid."""
    last = page_cursors.NOTICES.decode(cursor) or _LAST_EVENT
    rows = await pool.fetch(query("notices_of_book"), workspace, book, limit + 1, *last)
    notices = [StockNotice(*row) for row in rows]
    return page_cursors.NOTICES.make_page(notices, limit, lambda one: (one.epoch, one.seq))


class LedgerRow(msgspec.Struct, frozen=True):
    """A change of a card's balance, by the event of `epoch` and `seq`, and what was available afterwards."""

    epoch: int
    seq: int
    at_ms: int
    kind: Literal["issued", "credited", "spent", "returned", "closed"]
    amount_e4: int
    available_e4: int
    redemption_id: UUID | None
    order_id: str | None
    actor: str | None
    reason: str | None


async def ledger_of_card(pool: Pool, workspace: int, code: str, limit: int, cursor: str | None) -> Page[LedgerRow]:
    """The changes of a card's balance. Raises Refusal if the cursor is invalid."""
    last = page_cursors.LEDGER.decode(cursor) or _LAST_EVENT
    rows = await pool.fetch(query("ledger_of_card"), workspace, code, limit + 1, *last)
    changes = [LedgerRow(*row) for row in rows]
    return page_cursors.LEDGER.make_page(changes, limit, lambda one: (one.epoch, one.seq))


async def prune_notices(database: Database, limit: int) -> int:
    """Delete at most so many expired notices that no webhook still needs; return their number."""
    return await count_changed(database, query("prune_notices"), KEEP_NOTICES_DAYS, KEEP_DAYS, limit)


async def coupons_of_user(
    database: Database, workspace: int, user_id: str, limit: int, cursor: str | None
) -> Page[HeldCoupon]:
    """Coupons assigned to a user, or owned since upload. Raises Refusal if the cursor is invalid."""
    place = page_cursors.USER_COUPONS.decode(cursor)
    at, code = (_LAST_TIME, "") if place is None else (page_cursors.time_of(place[0]), place[1])
    rows = await database.fetch(query("coupons_of_user"), workspace, user_id, limit + 1, at, code)
    held = [HeldCoupon(*row) for row in rows]
    return page_cursors.USER_COUPONS.make_page(held, limit, lambda one: (page_cursors.microseconds(one.at), one.code))


def _redemption_page(rows: list, limit: int) -> Page[PastRedemption]:
    past = [PastRedemption(*row) for row in rows]
    return page_cursors.REDEMPTIONS.make_page(past, limit, lambda one: (one.redemption_id,))
