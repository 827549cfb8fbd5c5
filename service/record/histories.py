"""What happened, a page at a time, newest first."""

import base64
import binascii
import struct
from datetime import UTC, datetime
from typing import Generic, Literal, TypeVar
from uuid import UUID

import msgspec

from service.domain.errors import Refusal, malformed
from service.record.pool import Database
from service.record.queries import query

T = TypeVar("T")

_LAST_ID = UUID(int=2**128 - 1)
_LAST_EVENT = (2**63 - 1, 2**63 - 1)
_event = struct.Struct(">qq")
_LAST_TIME = datetime.max.replace(tzinfo=UTC)


class PastRedemption(msgspec.Struct, frozen=True):
    """A redemption as it is recorded; `book_id` is the book's outer id, `metadata` JSON."""

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
    metadata: str | None


class HeldCoupon(msgspec.Struct, frozen=True):
    """A coupon of a user's, since when."""

    code: str
    book: int
    at: datetime


class Page(msgspec.Struct, Generic[T], frozen=True):
    """A part of a list; `next_cursor` is None where it ends."""

    items: list[T]
    next_cursor: str | None


async def redemption(database: Database, workspace: int, redemption_id: UUID) -> PastRedemption | None:
    """One redemption of the workspace."""
    row = await database.fetchrow(query("redemption"), workspace, redemption_id)
    return None if row is None else PastRedemption(*row)


async def redemptions_of_book(
    database: Database, workspace: int, book: int, limit: int, cursor: str | None
) -> Page[PastRedemption]:
    """Redemptions of a book's codes. Raises Refusal where the cursor is none of ours."""
    return await _redemptions(database, "redemptions_of_book", workspace, book, limit, cursor)


async def redemptions_of_code(
    database: Database, workspace: int, code: str, limit: int, cursor: str | None
) -> Page[PastRedemption]:
    """Redemptions of a code. Raises Refusal where the cursor is none of ours."""
    return await _redemptions(database, "redemptions_of_code", workspace, code, limit, cursor)


async def redemptions_of_user(
    database: Database, workspace: int, user_id: str, limit: int, cursor: str | None
) -> Page[PastRedemption]:
    """Redemptions by a user. Raises Refusal where the cursor is none of ours."""
    return await _redemptions(database, "redemptions_of_user", workspace, user_id, limit, cursor)


async def redemptions_of_workspace(
    database: Database, workspace: int, limit: int, cursor: str | None
) -> Page[PastRedemption]:
    """All redemptions. Raises Refusal where the cursor is none of ours."""
    last = _LAST_ID if cursor is None else _unpacked_id(cursor)
    return _redemption_page(await database.fetch(query("redemptions_of_workspace"), workspace, limit + 1, last), limit)


class StockNotice(msgspec.Struct, frozen=True):
    """A book ran low, or out, of free codes or of uses of its total; `epoch` and `seq` are its event's."""

    epoch: int
    seq: int
    notice: Literal["low", "out"]
    what: Literal["codes", "uses"]
    remaining: int
    at_ms: int


async def notices_of_book(
    database: Database, workspace: int, book: int, limit: int, cursor: str | None
) -> Page[StockNotice]:
    """What was said of a book's stock. Raises Refusal where the cursor is none of ours."""
    last = _LAST_EVENT if cursor is None else _unpacked_event(cursor)
    rows = await database.fetch(query("notices_of_book"), workspace, book, limit + 1, *last)
    items = [StockNotice(*row) for row in rows[:limit]]
    more = len(rows) > limit
    return Page(items, _packed(_event.pack(items[-1].epoch, items[-1].seq)) if more else None)


async def coupons_of_user(
    database: Database, workspace: int, user_id: str, limit: int, cursor: str | None
) -> Page[HeldCoupon]:
    """Coupons assigned to a user or made theirs by the merchant. Raises Refusal where the cursor is none of ours."""
    at, code = (_LAST_TIME, "") if cursor is None else _unpacked_coupon(cursor)
    rows = await database.fetch(query("coupons_of_user"), workspace, user_id, limit + 1, at, code)
    items = [HeldCoupon(*row) for row in rows[:limit]]
    more = len(rows) > limit
    return Page(items, _packed(f"{items[-1].at.isoformat()} {items[-1].code}".encode()) if more else None)


async def _redemptions(
    database: Database, name: str, workspace: int, whose: int | str, limit: int, cursor: str | None
) -> Page[PastRedemption]:
    last = _LAST_ID if cursor is None else _unpacked_id(cursor)
    return _redemption_page(await database.fetch(query(name), workspace, whose, limit + 1, last), limit)


def _redemption_page(rows: list, limit: int) -> Page[PastRedemption]:
    items = [PastRedemption(*row) for row in rows[:limit]]
    return Page(items, _packed(items[-1].redemption_id.bytes) if len(rows) > limit else None)


def _packed(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).decode().rstrip("=")


def _unpacked(cursor: str) -> bytes:
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise _bad_cursor() from None


def _unpacked_id(cursor: str) -> UUID:
    key = _unpacked(cursor)
    if len(key) != 16:
        raise _bad_cursor()
    return UUID(bytes=key)


def _unpacked_event(cursor: str) -> tuple[int, int]:
    key = _unpacked(cursor)
    if len(key) != _event.size:
        raise _bad_cursor()
    return _event.unpack(key)


def _unpacked_coupon(cursor: str) -> tuple[datetime, str]:
    try:
        at, code = _unpacked(cursor).decode("ascii").split(" ")
        if code.isprintable():
            return datetime.fromisoformat(at).astimezone(UTC), code
    except (ValueError, OverflowError):
        pass
    raise _bad_cursor()


def _bad_cursor() -> Refusal:
    return malformed("cursor", "is not one that a list gave")
