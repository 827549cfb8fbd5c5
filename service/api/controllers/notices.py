"""Notices of a book's stock."""

from typing import Any, Literal

from litestar import Controller, Request, Response, get

from service.api.controllers.books import BookId
from service.api.controllers.histories import wait_recorded
from service.api.documented import describe_read
from service.api.reading import Listing, parse_id, unpack_request
from service.domain.field_types import Answer, Page
from service.domain.times import from_ms
from service.operations.coupon_view import Time
from service.record.config.book_rows import read_book
from service.record.facts.history_pages import notices_of_book

_EVENTS = {"low": "book.low_stock", "out": "book.exhausted"}
_NOTICE = {"event": "book.low_stock", "of": "codes", "left": 99, "at": "2026-11-20T09:15:30.456Z"}


class Notice(Answer):
    """A book ran low (fewer left than its `lowStockThreshold`) or out. `of`: free codes, or uses within its total."""

    event: Literal["book.low_stock", "book.exhausted"]
    of: Literal["codes", "uses"]
    left: int
    at: Time


class NoticePage(Page[Notice]):
    """A page of notices, newest first."""


class Notices(Controller):
    path = "/v1/books"

    @get(
        "/{bookId:str}/notices",
        **describe_read(
            "listBookNotices", "List a book's notices", "Books", query=Listing,
            answer={"items": [_NOTICE], "nextCursor": None}, lagging=True, refusals="book_not_found month_detached",
        ),
    )  # fmt: skip
    async def of_book(self, request: Request[Any, Any, Any], book_id: BookId) -> Response[NoticePage]:
        """Notices of the book, newest first: one each time an assign, redeem, gift or checkout takes the stock below
        the threshold, or to 0. Locks do not count. Notices are stored for 90 days. Scope `manage`."""
        caller, context, params = unpack_request(request, Listing)
        book = await read_book(context.pool, caller.workspace, parse_id(book_id, "book_not_found"))
        headers = await wait_recorded(context, caller)
        page = await notices_of_book(context.pool, caller.workspace, book.book, params.limit, params.cursor)
        items = [Notice(event=_EVENTS[n.notice], of=n.what, left=n.remaining, at=from_ms(n.at_ms)) for n in page.items]  # type: ignore[arg-type]
        return Response(NoticePage(items=items, next_cursor=page.next_cursor), headers=headers)
