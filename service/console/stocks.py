"""Books with their states and counts, as the overview, the list and a book's page show them. session.py registers the
routes; the console's scripts read these names. BookNow copies BookRow's fields by name."""

import time
from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, get

from service.engine.domain.configuration import BookRow
from service.engine.domain.discounts import BookDiscount
from service.engine.domain.field_types import Page
from service.engine.domain.times import Timestamp
from service.engine.operations.caller import Caller
from service.server.api.auth import FOR_MANAGERS
from service.server.api.book_counts import count_or_none
from service.server.api.context import Context
from service.server.api.controllers.books import BookId, ListBooks, find_book, list_books
from service.server.api.reading import unpack_request
from service.server.in_redis.workspace_state import BookCounts
from service.server.requests.book_requests import BookStats, render_book
from service.server.requests.book_states import BookState, find_book_state

MAX_BOOKS = 50
"""Each costs a script."""


class CodesNow(BookStats, kw_only=True):
    """Of a book that has ended, `expired` are those that would be available, assigned or held."""

    expired: int


class BookNow(BookState, kw_only=True):
    """A book with its state, and the counts of its codes; `counts` is None while Redis is unavailable."""

    book_id: UUID
    name: str
    discount: BookDiscount | None
    currency: str
    tags: list[str]
    valid_from: Timestamp | None
    valid_until: Timestamp | None
    counts: CodesNow | None


class BookNowPage(Page[BookNow]):
    """A page of books, newest first."""


class ListStocks(ListBooks, kw_only=True):
    """Which books to list."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_BOOKS)] = MAX_BOOKS


class Stocks(Controller):
    path = "/books"

    @get("/", opt=FOR_MANAGERS)
    async def page(self, request: Request[Any, Any, Any]) -> BookNowPage:
        """Books, newest first."""
        caller, context, params = unpack_request(request, ListStocks)
        page = await list_books(context, caller, params)
        return BookNowPage(items=await count_books(context, caller, page.items), next_cursor=page.next_cursor)

    @get("/{bookId:str}", opt=FOR_MANAGERS)
    async def read(self, request: Request[Any, Any, Any], book_id: BookId) -> BookNow:
        """A book."""
        caller, context, _ = unpack_request(request)
        (book,) = await count_books(context, caller, [await find_book(context, caller, book_id)])
        return book


async def count_books(context: Context, caller: Caller, rows: Sequence[BookRow]) -> list[BookNow]:
    """The books, each counted by a script."""
    counts = await context.bulk.gather(caller.workspace, rows, lambda row: count_or_none(context, caller, row.book_id))
    return [_render(row, count) for row, count in zip(rows, counts, strict=True)]


def _render(row: BookRow, counts: BookCounts | None) -> BookNow:
    now_ms, taken = (counts.now_ms, counts.taken) if counts else (time.time_ns() // 1_000_000, 0)
    state = find_book_state(row, now_ms, counts, taken)
    book = render_book(row)
    return BookNow.from_row(
        book,
        state=state.state,
        why=state.why,
        currency=row.discount.currency if row.discount else row.workspace_currency,
        counts=counts and _count_codes(counts, state.state == "ended"),
    )


def _count_codes(counts: BookCounts, has_ended: bool) -> CodesNow:
    if not has_ended:
        return CodesNow.from_row(counts, expired=0)
    expired = counts.available + counts.assigned + counts.locked
    return CodesNow.from_row(counts, available=0, assigned=0, locked=0, expired=expired)
