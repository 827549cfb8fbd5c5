"""A book's codes and redemptions as CSV. app.py registers it; roles.py has the scope of each operation id. Programs of
merchants read the columns by name or by place. audit.py uses `read_all` and `read_style`."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar

import asyncpg
import msgspec
from litestar import Controller, Request, Response, get
from msgspec.structs import fields

from service.engine.domain.configuration import BookRow
from service.engine.domain.money import from_e4
from service.engine.domain.settings import in_json
from service.engine.domain.times import from_ms
from service.engine.formats.events import SENT
from service.engine.operations.caller import Caller
from service.engine.operations.redemption_view import Redemption
from service.server.answers.views import redemption_of
from service.server.api.context import Context
from service.server.api.controllers.books import BookId, describe_of_book, find_book
from service.server.api.controllers.codes import CodeOfBook
from service.server.api.controllers.histories import wait_at_replica
from service.server.api.csv_rows import MEDIA_TYPE, Cell, CsvFormat, CsvStyle, Excel, encode_csv_pages
from service.server.api.csv_stream import CsvFile
from service.server.api.reading import unpack_request
from service.server.in_postgres import history_pages
from service.server.in_postgres.audit_log import AuditRow
from service.server.in_postgres.code_pages import FIRST, ListedCode, listed_codes
from service.server.in_postgres.history_pages import PastRedemption
from service.server.in_postgres.workspace_rows import read_workspace

Placed = TypeVar("Placed", ListedCode, AuditRow)

PAGE = 250
"""Rows per query, which asyncpg decodes in one turn of the event loop."""

_TEXTS = {name: field.sent.example for name, field in SENT.items() if not field.is_object}
_REDEMPTION_FIELDS = [
    *"redemption_id code user_id order_id order_value currency discount_amount final_amount redeemed_at rolled_back_at "
    "ip_address user_agent".split(),
    *_TEXTS,
]
_CAMEL_CASE = {field.name: field.encode_name for field in fields(Redemption)}
_REDEMPTION_COLUMNS = [*(_CAMEL_CASE[name] for name in _REDEMPTION_FIELDS), "paidByCard"]
_read_redemption_fields = attrgetter(*_REDEMPTION_FIELDS)

_CODES_EXAMPLE = (
    "code,status,userId,assignedAt,redemptions,maxRedemptions,expiresAt,redeemedBy,redeemedAt,amount\r\n"
    "SUMMER-2,available,,,0,1,2036-12-01T00:00:00.000Z,,,\r\n"
    "SUMMER-1,redeemed,user-42,2026-11-20T09:14:00.123Z,1,1,2036-12-01T00:00:00.000Z,user-42,2026-11-20T09:15:00.456Z,\r\n"
)
_REDEMPTIONS_EXAMPLE = (
    "redemptionId,code,userId,orderId,orderValue,currency,discountAmount,finalAmount,redeemedAt,rolledBackAt,ipAddress,"
    f"{','.join(('userAgent', *in_json(_TEXTS), 'paidByCard'))}\r\n"
    "019aa0b2-6f0c-7b52-8a0e-5d1f3d1f9c11,SUMMER-1,user-42,A-1001,100.00,USD,20.00,80.00,2026-11-20T09:15:00.456Z,,"
    f"192.0.2.1,{','.join(('curl/8.14.1', *(text or '' for text in _TEXTS.values()), '0.00'))}\r\n"
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
        **describe_of_book(
            "exportCodes",
            "Export a book's codes",
            "Codes",
            returns="The codes, as CSV.",
            query=CsvFormat,
            answer=_CODES_EXAMPLE,
        ),
    )
    async def codes(self, request: Request[Any, Any, Any], book_id: BookId) -> Response[str]:
        """All codes of the book as CSV, newest first. A lock does not change the status. Scope `manage`."""
        book, context, style, headers = await _begin_export(request, book_id)
        read = partial(listed_codes, context.replica.pool, book.workspace, book.book, PAGE)
        pages = context.bulk.read_pages(book.workspace, read_all(read))
        lines = encode_csv_pages(CodeOfBook.__struct_encode_fields__, pages, _read_code_cells, style)
        return CsvFile(context.bulk, book.workspace, lines, f"codes-{book.book_id}.csv", headers)

    @get(
        "/books/{bookId:str}/redemptions.csv",
        media_type=MEDIA_TYPE,
        **describe_of_book(
            "exportRedemptions",
            "Export a book's redemptions",
            "Redemptions",
            returns="The redemptions, as CSV.",
            query=CsvFormat,
            answer=_REDEMPTIONS_EXAMPLE,
        ),
    )
    async def redemptions(self, request: Request[Any, Any, Any], book_id: BookId) -> Response[str]:
        """All redemptions of the book's coupons as CSV, newest first. `paidByCard` is the part of `discountAmount` that
        a gift card paid. Scope `manage`."""
        book, context, style, headers = await _begin_export(request, book_id)
        pages = context.bulk.read_pages(book.workspace, _page_redemptions(context.replica.pool, book))
        lines = encode_csv_pages(_REDEMPTION_COLUMNS, pages, _read_redemption_cells, style)
        return CsvFile(context.bulk, book.workspace, lines, f"redemptions-{book.book_id}.csv", headers)


async def _begin_export(
    request: Request[Any, Any, Any], book_id: str
) -> tuple[BookRow, Context, CsvStyle, dict[str, str]]:
    """The book to export, the objects of this process, the format, and the header with the lag."""
    caller, context, params = unpack_request(request, CsvFormat)
    context.bulk.exports.check(caller.workspace)
    book = await find_book(context, caller, book_id)
    return book, context, await read_style(context, caller, params.excel), await wait_at_replica(context, caller)


async def read_style(context: Context, caller: Caller, excel: Excel) -> CsvStyle:
    """The style of a file in this format."""
    if excel is None:
        return CsvStyle()
    return CsvStyle(excel, (await read_workspace(context.pool, caller.workspace)).time_zone)


async def read_all(read: Callable[[int], Awaitable[Sequence[Placed]]]) -> AsyncIterator[Sequence[Placed]]:
    """All pages of a list, newest first; `read` reads at most PAGE rows before a position."""
    before = FIRST
    while True:
        page = await read(before)
        yield page
        if len(page) < PAGE:
            return
        before = page[-1].position


async def _page_redemptions(pool: asyncpg.Pool, book: BookRow) -> AsyncIterator[Sequence[PastRedemption]]:
    cursor = None
    while True:
        page = await history_pages.redemptions_of_book(pool, book.workspace, book.book, PAGE, cursor)
        yield page.items
        cursor = page.next_cursor
        if cursor is None:
            return


def _read_code_cells(row: ListedCode) -> Sequence[Cell]:
    """The cells in the order of CodeOfBook's fields, which ListedCode has after its position."""
    _, code, status, user, assigned_ms, uses, most, expires_ms, by, redeemed_ms, *_ = msgspec.structs.astuple(row)
    return code, status, user, _time(assigned_ms), uses, most, _time(expires_ms), by, _time(redeemed_ms), row.amount


def _time(ms: int | None) -> str | None:
    return None if ms is None else from_ms(ms)


def _read_redemption_cells(past: PastRedemption) -> Sequence[Cell]:
    redemption = redemption_of(past)
    paid_by_card = from_e4(0, past.digits) if past.balance_after_e4 is None else redemption.discount_amount
    return *_read_redemption_fields(redemption), paid_by_card
