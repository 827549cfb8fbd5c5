"""A book's codes and redemptions as CSV."""

from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice
from operator import attrgetter
from typing import Any

import asyncpg
from litestar import Controller, Request, Response, get
from msgspec.structs import fields

from service.api.context import Context
from service.api.controllers.books import BookId
from service.api.controllers.histories import wait_at_replica
from service.api.csv_rows import MEDIA_TYPE, Cell, encode_csv_rows
from service.api.csv_stream import CsvFile
from service.api.documented import describe_read
from service.api.reading import parse_id, unpack_request
from service.domain.configuration import BookRow
from service.domain.times import from_ms
from service.operations.redemption_view import Redemption
from service.operations.views import redemption_of
from service.record.config.book_rows import read_book
from service.record.config.code_pages import FIRST, ListedCode, listed_codes
from service.record.facts import history_pages
from service.record.facts.history_pages import PastRedemption

PAGE = 250
"""Rows per query, which asyncpg decodes in one turn of the event loop."""
PIECE = 100
"""Rows encoded between two turns of the event loop: about 0.5 ms of work."""

_CODES = "code status userId assignedAt redemptions maxRedemptions expiresAt redeemedBy redeemedAt".split()
_REDEMPTION_FIELDS = (
    "redemption_id code user_id order_id order_value currency discount_amount final_amount redeemed_at rolled_back_at "
    "ip_address user_agent"
).split()
_CAMEL_CASE = {field.name: field.encode_name for field in fields(Redemption)}
_REDEMPTIONS = [_CAMEL_CASE[name] for name in _REDEMPTION_FIELDS]
_read_redemption_cells = attrgetter(*_REDEMPTION_FIELDS)

_CODES_EXAMPLE = (
    "code,status,userId,assignedAt,redemptions,maxRedemptions,expiresAt,redeemedBy,redeemedAt\r\n"
    "SUMMER-2,available,,,0,1,2026-12-01T00:00:00.000Z,,\r\n"
    "SUMMER-1,redeemed,user-42,2026-11-20T09:14:00.123Z,1,1,2026-12-01T00:00:00.000Z,user-42,2026-11-20T09:15:00.456Z\r\n"
)
_REDEMPTIONS_EXAMPLE = (
    "redemptionId,code,userId,orderId,orderValue,currency,discountAmount,finalAmount,redeemedAt,rolledBackAt,ipAddress,"
    "userAgent\r\n"
    "019aa0b2-6f0c-7b52-8a0e-5d1f3d1f9c11,SUMMER-1,user-42,A-1001,100.00,USD,20.00,80.00,2026-11-20T09:15:00.456Z,,"
    "192.0.2.1,curl/8.14.1\r\n"
)


class Exports(Controller):
    """The endpoints for exports.

    A file is read page by page, without a transaction that a slow client would keep open. Rows recorded before the
    request are in the file once; later ones may be missing. Each row has the state at the time its page was read.
    """

    path = "/v1"

    @get(
        "/books/{bookId:str}/codes.csv",
        media_type=MEDIA_TYPE,
        **describe_read(
            "exportCodes", "Export a book's codes", "Codes", answer=_CODES_EXAMPLE, lagging=True,
            refusals="book_not_found month_detached",
        ),
    )  # fmt: skip
    async def codes(self, request: Request[Any, Any, Any], book_id: BookId) -> Response[str]:
        """All codes of the book as CSV, newest first. A lock does not change the status. Scope `manage`."""
        book, context, headers = await _begin_export(request, book_id)
        return CsvFile(
            context.bulk, book.workspace, _codes(context.replica.pool, book), f"codes-{book.book_id}.csv", headers
        )

    @get(
        "/books/{bookId:str}/redemptions.csv",
        media_type=MEDIA_TYPE,
        **describe_read(
            "exportRedemptions", "Export a book's redemptions", "Redemptions", answer=_REDEMPTIONS_EXAMPLE,
            lagging=True, refusals="book_not_found month_detached",
        ),
    )  # fmt: skip
    async def redemptions(self, request: Request[Any, Any, Any], book_id: BookId) -> Response[str]:
        """All redemptions of the book's coupons as CSV, newest first. Scope `manage`."""
        book, context, headers = await _begin_export(request, book_id)
        rows = _redemptions(context.replica.pool, book)
        return CsvFile(context.bulk, book.workspace, rows, f"redemptions-{book.book_id}.csv", headers)


async def _begin_export(request: Request[Any, Any, Any], book_id: str) -> tuple[BookRow, Context, dict[str, str]]:
    """The book to export, the objects of this process, and the header with the lag."""
    caller, context, _ = unpack_request(request)
    book = await read_book(context.pool, caller.workspace, parse_id(book_id, "book_not_found"))
    return book, context, await wait_at_replica(context, caller)


async def _codes(pool: asyncpg.Pool, book: BookRow) -> AsyncIterator[bytes]:
    head, before = encode_csv_rows([_CODES]), FIRST
    while True:
        page = await listed_codes(pool, book.workspace, book.book, PAGE, before)
        yield head
        for piece in _pieces(map(_code_row, page)):
            yield piece
        if len(page) < PAGE:
            return
        head, before = b"", page[-1].position


async def _redemptions(pool: asyncpg.Pool, book: BookRow) -> AsyncIterator[bytes]:
    head, cursor = encode_csv_rows([_REDEMPTIONS]), None
    while True:
        page = await history_pages.redemptions_of_book(pool, book.workspace, book.book, PAGE, cursor)
        yield head
        for piece in _pieces(map(_redemption_row, page.items)):
            yield piece
        if page.next_cursor is None:
            return
        head, cursor = b"", page.next_cursor


def _pieces(rows: Iterator[Sequence[Cell]]) -> Iterator[bytes]:
    while piece := encode_csv_rows(islice(rows, PIECE)):
        yield piece


def _code_row(row: ListedCode) -> Sequence[Cell]:
    return (
        row.code,
        row.status,
        row.user_id,
        _time(row.assigned_at_ms),
        row.redemptions,
        row.max_redemptions,
        _time(row.expires_at_ms),
        row.redeemed_by,
        _time(row.redeemed_at_ms),
    )


def _redemption_row(past: PastRedemption) -> Sequence[Cell]:
    return _read_redemption_cells(redemption_of(past))


def _time(ms: int | None) -> str | None:
    return None if ms is None else from_ms(ms)
