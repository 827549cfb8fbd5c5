"""What was noticed of a book's stock."""

from typing import Any, Literal

from litestar import Controller, Request, Response, get

from service.api.auth import caller
from service.api.controllers.books import BookId
from service.api.controllers.histories import settled
from service.api.documented import documented
from service.api.reading import Listing, id_of, query
from service.domain.field_types import Answer
from service.domain.times import from_ms
from service.operations.base import encode
from service.operations.coupon_view import Time
from service.record.config.book_rows import read_book
from service.record.facts.history_pages import notices_of_book

_EVENTS = {"low": "book.low_stock", "out": "book.exhausted"}
_NOTICE = {"event": "book.low_stock", "of": "codes", "left": 99, "at": "2026-11-20T09:15:30.456Z"}


class Notice(Answer):
    """A book ran low (fewer left than its `lowStockThreshold`) or out, of free codes or of uses of its total."""

    event: Literal["book.low_stock", "book.exhausted"]
    of: Literal["codes", "uses"]
    left: int
    at: Time


class NoticePage(Answer):
    """A page of notices, newest first."""

    items: list[Notice]
    next_cursor: str | None


class Notices(Controller):
    """Reading what was noticed."""

    path = "/v1/books"

    @get(
        "/{bookId:str}/notices",
        **documented(
            "listBookNotices", "List a book's notices", "Books", query=Listing,
            answer={"items": [_NOTICE], "nextCursor": None}, lagging=True, refusals="book_not_found",
        ),
    )  # fmt: skip
    async def of_book(self, request: Request[Any, Any, Any], book_id: BookId) -> Response[NoticePage]:
        """When the book ran low or out, newest first: once for each time that an assign, redeem, gift or checkout took
        it below the line. Locks don't count. Notices are kept for 90 days. Scope `manage`."""
        who, asked = caller(request), query(request, Listing)
        pool = request.app.state.context.pool
        book = await read_book(pool, who.workspace, id_of(book_id, "book_not_found"))
        headers = await settled(request, who)
        page = await notices_of_book(pool, who.workspace, book.book, asked.limit, asked.cursor)
        items = [Notice(event=_EVENTS[n.notice], of=n.what, left=n.remaining, at=from_ms(n.at_ms)) for n in page.items]  # type: ignore[arg-type]
        body = NoticePage(items=items, next_cursor=page.next_cursor)
        return Response(encode(body), headers=headers, media_type="application/json")  # type: ignore[return-value]
