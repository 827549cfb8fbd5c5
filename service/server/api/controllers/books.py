"""Books: making, listing, reading and changing them. app.py registers it; roles.py has the scope of each operation id.
Other controllers use its names. `/coupons` is a second address of `/books` (docs/comes-from.md)."""

from functools import partial
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, get, patch, post
from litestar.params import PathParameter

from service.engine.domain.configuration import BookRow
from service.engine.domain.errors import invalid
from service.engine.domain.field_types import Page, check_text, text_schema
from service.engine.domain.settings import defaults_of, in_json
from service.engine.operations.caller import Caller
from service.server.api.configuration_writes import Change, settle_keys
from service.server.api.context import Context
from service.server.api.documented import describe_action, describe_history, describe_route
from service.server.api.idempotency import ActionResult, run_once
from service.server.api.reading import Listing, decode_position, parse_id, read_json_body, unpack_request
from service.server.in_postgres.book_rows import create_book, page_books, patch_book, read_book
from service.server.in_postgres.budget_rows import is_counted
from service.server.requests import book_requests, page_cursors
from service.server.requests.book_requests import Book, CreateBook, PatchBook, Status

BookId = Annotated[str, PathParameter(name="bookId", description="The book's id.")]
describe_of_book = partial(describe_history, refusals="book_not_found")
"""For lists and exports of a book's codes and facts."""


_DISCOUNT = {"type": "percentage", "value": 20, "maxAmount": 50, "minOrderValue": 100, "currency": "USD"}
_CREATE = {
    "name": "Summer sale",
    "validUntil": "2036-12-01T00:00:00Z",
    "discount": _DISCOUNT,
}
EXAMPLE = {
    "bookId": "019aa0b2-6f0c-7b52-8a0e-5d1f3d1f9c11",
    "name": "Summer sale",
    "description": "",
    "status": "active",
    "validFrom": None,
    "validUntil": "2036-12-01T00:00:00.000Z",
    "maxRedemptionsPerUser": 1,
    "discount": _DISCOUNT | {"value": "20", "maxAmount": "50.00", "minOrderValue": "100.00"},
    "codePattern": "####-####-####",
    "charset": "23456789ABCDEFGHJKLMNPQRSTUVWXYZ",
    "totalCodes": None,
    "giftBookId": None,
    "tags": [],
    "metadata": {},
    "createdBy": None,
    "limits": {"missesPerMinute": None, "locksPerUser": 2, "lockedPercent": 50},
    "budgets": [{"amount": "10000.00", "per": "book", "period": "month"}],
    "useLimits": [{"uses": 3, "per": "user", "period": "day"}],
    "createdAt": "2026-11-20T09:14:00.123Z",
    "updatedAt": "2026-11-20T09:14:00.123Z",
    **in_json(defaults_of(BookRow) | {"max_redemptions_per_code": 1, "max_redemptions_per_user": 1}),
}


class ListBooks(Listing, kw_only=True):
    """Which books to list."""

    status: Annotated[Status | None, msgspec.Meta(description="Only books of this status.")] = None
    tag: Annotated[str, text_schema(0, 255, description="Only books with this tag.")] | None = None
    q: Annotated[str, text_schema(0, 255, description="Part of the name or the description, in any case.")] | None = (
        None
    )

    def __post_init__(self) -> None:
        check_text("tag", self.tag, 0, 255)
        check_text("q", self.q, 0, 255)


class BookPage(Page[Book]):
    """A page of books, newest first."""


class Books(Controller):
    path = "/v1"
    tags = ("Books",)

    @post(
        ["/books", "/coupons"],
        **describe_action(
            "createBook",
            "Create a book",
            returns="The new book.",
            aliases={"/v1/coupons": "createCoupons"},
            body=CreateBook,
            example=_CREATE,
            answer=EXAMPLE,
            refusals="pattern_too_small too_many_jobs storage_full outcome_unknown",
            located=True,
        ),
    )
    async def create(self, request: Request[Any, Any, Any]) -> Response[Book]:
        """Create a book, such as for a campaign. With `totalCodes` the job `jobId` generates that many codes.
        Scope `manage`."""
        caller, context, _ = unpack_request(request)
        body, payload = await read_json_body(request, CreateBook)
        change = Change(context, caller.partition)

        async def act() -> ActionResult[Book]:
            row, job_id = await create_book(context.pool, caller.workspace, caller.partition, payload)
            await change.project(row.version, context.projector.book(row))
            if row.limits:  # keys without limits count misses only if a book limits them
                await settle_keys(context)
            made = book_requests.render_book(row, msgspec.UNSET if job_id is None else job_id)
            return ActionResult(status=201, body=made, location=f"/v1/books/{row.book_id}")

        return await run_once(request, body, act)

    @get(
        ["/books", "/coupons"],
        **describe_route(
            "listBooks",
            "List books",
            returns="A page of books.",
            aliases={"/v1/coupons": "listCoupons"},
            query=ListBooks,
            item=EXAMPLE,
        ),
    )
    async def page(self, request: Request[Any, Any, Any]) -> BookPage:
        """Books, newest first. Scope `manage`."""
        caller, context, params = unpack_request(request, ListBooks)
        page = await list_books(context, caller, params)
        items = await context.bulk.render(caller.workspace, page.items, book_requests.render_book)
        return BookPage(items=items, next_cursor=page.next_cursor)

    @get(
        "/books/{bookId:str}",
        **describe_route("getBook", "Read a book", returns="The book.", answer=EXAMPLE, refusals="book_not_found"),
    )
    async def read(self, request: Request[Any, Any, Any], book_id: BookId) -> Book:
        """A book. Scope `manage`."""
        caller, context, _ = unpack_request(request)
        return book_requests.render_book(await find_book(context, caller, book_id))

    @patch(
        "/books/{bookId:str}",
        **describe_route(
            "patchBook",
            "Change a book",
            returns="The changed book.",
            body=PatchBook,
            example={"status": "inactive", "validUntil": None},
            answer=EXAMPLE,
            refusals="book_not_found book_archived pattern_too_small outcome_unknown",
        ),
    )
    async def change(self, request: Request[Any, Any, Any], book_id: BookId) -> Book:
        """Change the given fields; null resets a field. Applies to all later requests, also for existing codes.

        Scope `manage`."""
        caller, context, _ = unpack_request(request)
        parsed = parse_id(book_id, "book_not_found")
        _, payload = await read_json_body(request, PatchBook)
        change = Change(context, caller.partition)
        await _check_fixed(context, caller, parsed, payload)
        row = await patch_book(context.pool, caller.workspace, caller.partition, parsed, payload)
        await change.project(row.version, context.projector.book(row))
        if payload.limits is not msgspec.UNSET:  # as in `create`
            await settle_keys(context)
        if not row.is_counted:
            await change.until(partial(is_counted, context.pool, row.workspace, row.book, row.counted_from))
        return book_requests.render_book(row)


async def list_books(context: Context, caller: Caller, params: ListBooks) -> Page[BookRow]:
    """A page of books, newest first."""
    before = decode_position(params, page_cursors.BOOKS)
    filters = (params.status, params.tag, params.q)
    read = partial(page_books, context.pool, caller.workspace, params.limit + 1, before, *filters)
    if params.q is None:
        rows = await context.bulk.read(caller.workspace, params.limit, read)
    else:
        rows = await context.bulk.search(caller.workspace, read)
    return page_cursors.BOOKS.make_page(rows, params.limit, lambda row: (row.book,))


async def find_book(context: Context, caller: Caller, book_id: str) -> BookRow:
    """The book with the id that a request names. Raises Refusal `book_not_found`."""
    return await read_book(context.pool, caller.workspace, parse_id(book_id, "book_not_found"))


async def _check_fixed(context: Context, caller: Caller, book_id: UUID, payload: PatchBook) -> None:
    """Raise Refusal if `maxRedemptionsPerCode` or the discount's currency changes after a code of the book was locked
    or redeemed. What is locked or redeemed between this check and the change keeps its old limit
    (lua/includes/coupon.lua) and price (lua/includes/pricing.lua)."""
    uses, discount = payload.max_redemptions_per_code, payload.discount
    currency = discount.currency if discount else None
    if uses is msgspec.UNSET and currency is None:
        return
    row = await read_book(context.pool, caller.workspace, book_id)
    changed = uses is not msgspec.UNSET and row.max_redemptions_per_code != uses and "maxRedemptionsPerCode"
    if currency is not None and row.own_currency not in (None, currency):
        changed = changed or "discount.currency"
    if changed and (await context.hot.book_counts(caller, str(book_id))).touched:
        raise invalid(changed, "is fixed, since a code of this book was locked or redeemed")
