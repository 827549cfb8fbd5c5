"""Histories from Postgres: a list first waits up to 2 s until all events are recorded. Statistics, and the state of
coupons, are Redis's. app.py registers it; roles.py has the scope of each operation id. Other controllers and the
console call `wait_recorded` and its like."""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from litestar import Controller, Request, Response, get
from litestar.params import PathParameter

from service.engine.deciding.recall import decide
from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import Answer, Nothing, Page
from service.engine.domain.money import Amount, from_e4
from service.engine.domain.times import Timestamp, from_ms
from service.engine.operations import coupon_view
from service.engine.operations.base import parse_code
from service.engine.operations.caller import Caller, resolve_user
from service.engine.operations.coupon_view import Coupon
from service.engine.operations.document_parts import COUPON, REDEMPTION
from service.engine.operations.redemption_view import Redemption
from service.engine.record.partitions.partition_rows import read_partition
from service.server.answers.views import redemption_of
from service.server.api.auth import get_caller
from service.server.api.book_counts import count_book
from service.server.api.context import Context
from service.server.api.controllers.books import BookId, describe_of_book, find_book
from service.server.api.controllers.consistency import lag_s
from service.server.api.controllers.coupons import Code
from service.server.api.controllers.users import UserIdPath, check_user
from service.server.api.documented import describe_history, describe_route
from service.server.api.hot_path import call_without_body
from service.server.api.reading import Listing, parse_id, unpack_request
from service.server.in_postgres import history_pages
from service.server.in_postgres.book_rows import read_book
from service.server.in_postgres.code_pages import CodePlace, find_code
from service.server.in_postgres.history_pages import LedgerRow, PastRedemption
from service.server.requests.book_requests import BookStats

T = TypeVar("T")

BARRIER_MS = 2000
LAG = "Scrip-Lag-Seconds"
"""Headers, which documented.py and cors.py name, too."""
MAX_PAGES = 20
"""The most pages that are read for one filtered page; the next request continues from there."""

_STATS = {
    "codes": 1000,
    "available": 700,
    "assigned": 180,
    "locked": 20,
    "redeemed": 95,
    "exhausted": 0,
    "inactive": 5,
    "redemptions": 95,
    "rolledBack": 3,
    "discountTotal": "1900.00",
    "users": 91,
    "budgets": [],
    "balance": None,
}
_ENTRY = {
    "at": "2026-11-20T09:15:30.456Z",
    "kind": "spent",
    "amount": "20.00",
    "available": "30.00",
    "redemptionId": REDEMPTION["redemptionId"],
    "orderId": REDEMPTION["orderId"],
    "actor": None,
    "reason": None,
}
_EVENTS = {"low": "book.low_stock", "out": "book.exhausted"}
_NOTICE = {"event": "book.low_stock", "of": "codes", "left": 99, "at": "2026-11-20T09:15:30.456Z"}


RedemptionId = Annotated[str, PathParameter(name="redemptionId", description="The redemption's id.")]

_describe_of_user = partial(describe_history, tag="Users", refusals="not_found")


class ListCoupons(Listing, kw_only=True):
    """Which coupons to list."""

    status: Annotated[
        Literal["redeemed", "exhausted", "inactive", "expired", "assigned"] | None,
        msgspec.Meta(description="Only coupons of this status; a lock does not change it."),
    ] = None


class RedemptionPage(Page[Redemption]):
    """A page of redemptions, newest first."""


class CouponPage(Page[Coupon]):
    """A page of coupons, newest first."""


class Notice(Answer):
    """A book ran low (fewer left than its `lowStockThreshold`) or out. `of`: free codes, or uses within its total."""

    event: Literal["book.low_stock", "book.exhausted"]
    of: Literal["codes", "uses"]
    left: int
    at: Timestamp


class NoticePage(Page[Notice]):
    """A page of notices, newest first."""


class LedgerEntry(Answer):
    """A change of a card's balance."""

    at: Timestamp
    kind: Literal["issued", "credited", "spent", "returned", "closed"]
    amount: Amount
    available: Amount
    redemption_id: str | None
    order_id: str | None
    actor: str | None
    reason: str | None


class LedgerPage(Page[LedgerEntry]):
    """A page of changes of a card's balance, newest first."""


class Histories(Controller):
    path = "/v1"

    @get(
        "/books/{bookId:str}/stats",
        **describe_route(
            "getBookStats",
            "Count a book's coupons",
            "Books",
            returns="The counts.",
            answer=_STATS,
            refusals="book_not_found",
        ),
    )
    async def stats(self, request: Request[Any, Any, Any], book_id: BookId) -> BookStats:
        """Live counts; of an archived book the last ones. Scope `manage`."""
        caller, context, _ = unpack_request(request)
        return BookStats.from_row(await count_book(context, caller, parse_id(book_id, "book_not_found")))

    @get(
        "/books/{bookId:str}/redemptions",
        **describe_of_book(
            "listBookRedemptions",
            "List a book's redemptions",
            "Redemptions",
            returns="A page of the book's redemptions.",
            item=REDEMPTION,
        ),
    )
    async def of_book(self, request: Request[Any, Any, Any], book_id: BookId) -> Response[RedemptionPage]:
        """Redemptions of the book's coupons, newest first. Scope `manage`."""
        caller, context, params = unpack_request(request, Listing)
        book = await find_book(context, caller, book_id)
        return await list_redemptions(context, caller, params, history_pages.redemptions_of_book, book.book)

    @get(
        "/books/{bookId:str}/notices",
        **describe_of_book(
            "listBookNotices", "List a book's notices", "Books", returns="A page of notices.", item=_NOTICE
        ),
    )
    async def notices(self, request: Request[Any, Any, Any], book_id: BookId) -> Response[NoticePage]:
        """Notices of the book, newest first: one each time an assign, redeem, gift or checkout takes the stock below
        the threshold, or to 0. Locks do not count. Notices are stored for 90 days. Scope `manage`."""
        caller, context, params = unpack_request(request, Listing)
        book = await find_book(context, caller, book_id)
        headers = await wait_recorded(context, caller)
        page = await history_pages.notices_of_book(
            context.pool, caller.workspace, book.book, params.limit, params.cursor
        )
        items = [Notice(event=_EVENTS[n.notice], of=n.what, left=n.remaining, at=from_ms(n.at_ms)) for n in page.items]  # type: ignore[arg-type]
        return Response(NoticePage(items=items, next_cursor=page.next_cursor), headers=headers)

    @get(
        "/users/{userId:str}/redemptions",
        **_describe_of_user(
            "listUserRedemptions",
            "List a user's redemptions",
            returns="A page of the user's redemptions.",
            item=REDEMPTION,
        ),
    )
    async def of_user(self, request: Request[Any, Any, Any], user_id: UserIdPath) -> Response[RedemptionPage]:
        """The user's redemptions, newest first, Scope `checkout` or `manage`."""
        caller, context, params = unpack_request(request, Listing)
        check_user(caller, user_id)
        return await list_redemptions(context, caller, params, history_pages.redemptions_of_user, user_id)

    @get(
        "/coupons/{code:str}/redemptions",
        **describe_history(
            "listCouponRedemptions",
            "List a coupon's redemptions",
            "Redemptions",
            returns="A page of the coupon's redemptions.",
            item=REDEMPTION,
            refusals="coupon_not_found",
        ),
    )
    async def of_coupon(self, request: Request[Any, Any, Any], code: Code) -> Response[RedemptionPage]:
        """The coupon's redemptions, newest first; also of an archived book. Scope `manage`."""
        caller, context, params = unpack_request(request, Listing)
        name, _ = await _find_recorded(context, caller, code)
        return await list_redemptions(context, caller, params, history_pages.redemptions_of_code, name)

    @get(
        "/coupons/{code:str}/ledger",
        **describe_history(
            "getLedger",
            "List the changes of a card's balance",
            "Redemptions",
            returns="A page of the card's ledger.",
            item=_ENTRY,
            refusals="coupon_not_found",
        ),
    )
    async def ledger(self, request: Request[Any, Any, Any], code: Code) -> Response[LedgerPage]:
        """What changed the card's balance, newest first: its issue, credits, redemptions (`spent`), rollbacks
        (`returned`) and closes. Empty for a coupon without a balance. Also of an archived book. Scope `manage`."""
        caller, context, params = unpack_request(request, Listing)
        name, place = await _find_recorded(context, caller, code)
        book = await read_book(context.pool, caller.workspace, place.book_id)
        headers = await wait_recorded(context, caller)
        read_page = partial(
            history_pages.ledger_of_card,
            context.pool, caller.workspace, name, params.limit, params.cursor,
        )  # fmt: skip
        page = await context.bulk.read(caller.workspace, params.limit, read_page)
        digits = book.discount.digits if book.discount else 2
        items = await context.bulk.render(caller.workspace, page.items, partial(_render_entry, digits))
        return Response(LedgerPage(items=items, next_cursor=page.next_cursor), headers=headers)

    @get(
        "/redemptions/{redemptionId:str}",
        **describe_history(
            "getRedemption",
            "Get a redemption",
            "Redemptions",
            returns="The redemption.",
            answer=REDEMPTION,
            refusals="redemption_not_found behind",
        ),
    )
    async def one(self, request: Request[Any, Any, Any], redemption_id: RedemptionId) -> Response[Redemption]:
        """The redemption, also one that was rolled back. A user's token gets its own. `behind` if it may be one that is
        not recorded yet. Scope `checkout` or `manage`."""
        caller, context, _ = unpack_request(request)
        name = parse_id(redemption_id, "redemption_not_found")
        headers = await wait_at_replica(context, caller)
        past = await history_pages.redemption(context.replica.pool, caller.workspace, name)
        if past is None:
            raise Refusal.temporary("behind") if headers else Refusal("redemption_not_found")
        resolve_user(caller, past.user_id)
        return Response(redemption_of(past), headers=headers)

    @get(
        "/users/{userId:str}/coupons",
        **_describe_of_user(
            "listUserCoupons",
            "List a user's coupons",
            returns="A page of the user's coupons.",
            query=ListCoupons,
            item=COUPON,
        ),
    )
    async def coupons(self, request: Request[Any, Any, Any], user_id: UserIdPath) -> Response[CouponPage]:
        """The user's coupons, newest first. A lock does not change the status. Scope `checkout` or `manage`."""
        caller, context, params = unpack_request(request, ListCoupons)
        check_user(caller, user_id)
        headers = await wait_recorded(context, caller)
        return Response(await _page_coupons(request, caller, context, params, user_id), headers=headers)


async def _find_recorded(context: Context, caller: Caller, code: str) -> tuple[str, CodePlace]:
    """A code, in upper case, and its place in Postgres, which has also those of archived books. Raises Refusal
    `coupon_not_found`."""
    name = parse_code(code)
    place = await find_code(context.pool, caller.workspace, name)
    if place is None:
        raise Refusal("coupon_not_found")
    return name, place


def _render_entry(digits: int, row: LedgerRow) -> LedgerEntry:
    return LedgerEntry.from_row(
        row,
        amount=from_e4(row.amount_e4, digits),
        available=from_e4(row.available_e4, digits),
        redemption_id=None if row.redemption_id is None else str(row.redemption_id),
    )


async def _page_coupons(
    request: Request[Any, Any, Any], caller: Caller, context: Context, params: ListCoupons, user_id: str
) -> CouponPage:
    """A page of a user's coupons."""
    items: list[Coupon] = []
    cursor = params.cursor
    for _ in range(MAX_PAGES):
        limit = params.limit - len(items)
        page = await history_pages.coupons_of_user(context.pool, caller.workspace, user_id, limit, cursor)
        coupons = await context.bulk.gather(caller.workspace, page.items, lambda held: read_coupon(request, held.code))
        for coupon in coupons:
            if coupon and coupon.status == "locked":
                coupon.status = "assigned"
        items += [item for item in coupons if item and params.status in (None, item.status)]
        cursor = page.next_cursor
        if cursor is None or len(items) == params.limit:
            break
    return CouponPage(items=items, next_cursor=cursor)


async def read_or_none(reading: Awaitable[T]) -> T | None:
    """What is read of a coupon; None if it does not exist."""
    try:
        return await reading
    except Refusal as refusal:
        if refusal.code != "coupon_not_found":
            raise
        return None


async def read_coupon(request: Request[Any, Any, Any], code: str) -> Coupon:
    """The current state of a coupon, from Redis."""
    caller = get_caller(request)
    context: Context = request.app.state.context
    command = coupon_view.prepare(call_without_body(request, caller), code, Nothing())
    reply = await decide(context.decider, context.pool, caller, command)
    return coupon_view.restrict(caller, coupon_view.parse_coupon(reply[1]))


async def wait_recorded(context: Context, caller: Caller) -> dict[str, str]:
    """Wait until all events up to now are recorded. If that takes too long, return the header with the lag: the age of
    the oldest unrecorded event, or without Redis the time since the last recording."""
    try:
        epoch, seq = await context.decider.read_tail(caller.partition)
        if await context.recorded.wait(caller.partition, epoch, seq, BARRIER_MS):
            return {}
    except Refusal:
        pass  # Redis is unreachable: return what Postgres has
    row = await read_partition(context.pool, caller.partition)
    behind_s = await lag_s(context, row)
    if not behind_s and row.recorded_at:
        behind_s = time.time() - row.recorded_at.timestamp()
    return {LAG: str(max(1, round(behind_s)))}


async def wait_at_replica(context: Context, caller: Caller) -> dict[str, str]:
    """Like wait_recorded, for a read of the replica; the header has the larger lag."""
    headers = await wait_recorded(context, caller)
    return headers | await wait_for_replica(context, int(headers.get(LAG, 0)))


async def wait_for_replica(context: Context, least_s: int = 0) -> dict[str, str]:
    """Wait until the replica has everything that is committed; if that takes too long, return the header with the
    lag."""
    behind_s = await context.replica.catch_up(BARRIER_MS / 1000)
    return {LAG: str(max(1, least_s, round(behind_s)))} if behind_s else {}


async def list_redemptions(
    context: Context,
    caller: Caller,
    params: Listing,
    read: Callable[..., Awaitable[Page[PastRedemption]]],
    *of: int | str,
) -> Response[RedemptionPage]:
    """A page of the redemptions that `read` reads, of a book, a code or a user."""
    headers = await wait_at_replica(context, caller)
    read_page = partial(read, context.replica.pool, caller.workspace, *of, params.limit, params.cursor)
    page = await context.bulk.read(caller.workspace, params.limit, read_page)
    items = await context.bulk.render(caller.workspace, page.items, redemption_of)
    body = RedemptionPage(items=items, next_cursor=page.next_cursor)
    return Response(body, headers=headers)
