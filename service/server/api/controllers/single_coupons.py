"""Single coupons: each is created together with its own book. Also lists time-specific coupons valid now. app.py
registers it; roles.py has the scope of each operation id."""

from functools import partial
from typing import Any

import msgspec
from litestar import Controller, Request, Response, get, post

from service.engine.domain.configuration import BookRow, CodeRow
from service.engine.domain.field_types import Page
from service.engine.operations.coupon_view import Coupon
from service.engine.operations.document_parts import COUPON
from service.server.api.configuration_writes import Change, committed
from service.server.api.context import Context
from service.server.api.controllers import books
from service.server.api.controllers.histories import read_coupon, read_or_none
from service.server.api.documented import describe_action, describe_route
from service.server.api.idempotency import ActionResult, run_once
from service.server.api.reading import Listing, decode_position, read_json_body, unpack_request
from service.server.in_postgres.single_coupon_rows import create_single, page_active
from service.server.requests import page_cursors
from service.server.requests.book_requests import Book, render_book
from service.server.requests.single_coupon_requests import Generated, SingleCoupon, TimeSpecific, UserSpecific

_DISCOUNT = {"discountType": "percentage", "discountValue": 20, "maxDiscountAmount": "50.00"}
_FIXED = {"discountType": "fixed", "discountValue": "5.00"}
_WINDOW = {"validFrom": "2036-11-27T00:00:00Z", "validUntil": "2036-12-01T00:00:00Z", "maxUsesPerUser": 1}
_FOR_USER = {"userId": "user-42", "code": "SUMMER-7QX2"} | _DISCOUNT
_IN_WINDOW = {"code": "SUMMER-7QX2"} | _WINDOW | _DISCOUNT
_EXAMPLE = COUPON | {"book": books.EXAMPLE}
_OPEN = COUPON | {"status": "available", "userId": None, "assignedAt": None, "book": books.EXAMPLE}

_describe_new = partial(describe_action, refusals="code_exists storage_full outcome_unknown", located=True)


class CouponInBook(Coupon, kw_only=True):
    """A coupon and its own book."""

    book: Book


class ActivePage(Page[CouponInBook]):
    """A page of coupons with their books, newest first."""


class SingleCoupons(Controller):
    path = "/v1/coupons"
    tags = ("Coupons",)

    @post(
        "/user-specific",
        **_describe_new(
            "createUserSpecific",
            "Create a coupon for one user",
            returns="The new coupon, assigned to the user, and its book.",
            body=UserSpecific,
            example=_FOR_USER,
            answer=_EXAMPLE,
        ),
    )
    async def user_specific(self, request: Request[Any, Any, Any]) -> Response[CouponInBook]:
        """Create a coupon, assigned to the user, in its own book. Scope `manage`."""
        return await _make(request, UserSpecific)

    @post(
        "/time-specific",
        **_describe_new(
            "createTimeSpecific",
            "Create a coupon for a period of time",
            returns="The new coupon and its book.",
            body=TimeSpecific,
            example=_IN_WINDOW,
            answer=_OPEN | {"maxRedemptions": None},
        ),
    )
    async def time_specific(self, request: Request[Any, Any, Any]) -> Response[CouponInBook]:
        """Create a coupon that is valid from `validFrom` until just before `validUntil`, in its own book.

        Scope `manage`."""
        return await _make(request, TimeSpecific)

    @post(
        "/generate",
        **_describe_new(
            "generateCoupon",
            "Create a coupon",
            returns="The new coupon and its book.",
            body=Generated,
            example=_FIXED,
            answer=_OPEN,
        ),
    )
    async def generate(self, request: Request[Any, Any, Any]) -> Response[CouponInBook]:
        """Create a coupon in its own book. Scope `manage`."""
        return await _make(request, Generated)

    @get(
        "/active/time-specific",
        **describe_route(
            "listActiveTimeSpecific",
            "List the time-specific coupons valid now",
            returns="A page of coupons with their books.",
            item=_OPEN,
        ),
    )
    async def active(self, request: Request[Any, Any, Any]) -> ActivePage:
        """Time-specific coupons within their validity window that are active, in active books; newest first.

        The list includes coupons without uses left. Scope `checkout` or `manage`."""
        caller, context, params = unpack_request(request, Listing)
        before = decode_position(params, page_cursors.ACTIVE)
        rows = await page_active(context.pool, caller.workspace, params.limit + 1, before)
        page = page_cursors.ACTIVE.make_page(rows, params.limit, lambda row: (row[0].book,))
        coupons = await context.bulk.gather(  # without those that other requests are creating
            caller.workspace, page.items, lambda row: read_or_none(_read_with_book(request, *row))
        )
        return ActivePage(items=[item for item in coupons if item is not None], next_cursor=page.next_cursor)


async def _make(request: Request[Any, Any, Any], kind: type[SingleCoupon]) -> Response[CouponInBook]:
    caller, context, _ = unpack_request(request)
    body, payload = await read_json_body(request, kind)
    change = Change(context, caller.partition)

    async def act() -> ActionResult[CouponInBook]:
        book, code = await create_single(context.pool, caller.workspace, caller.partition, payload)
        await change.project(book.version, _write(context, book, code))
        with committed():
            created = await _read_with_book(request, book, code.code)
        return ActionResult(status=201, body=created, location=f"/v1/coupons/{code.code}")

    return await run_once(request, body, act, user=payload.user_id)


async def _write(context: Context, book: BookRow, code: CodeRow) -> None:
    """Write both to Redis, the book first: the write of a code with its own limit needs the book's rules."""
    await context.projector.book(book)
    await context.projector.coupon(code)


async def _read_with_book(request: Request[Any, Any, Any], book: BookRow, code: str) -> CouponInBook:
    coupon = await read_coupon(request, code)
    return CouponInBook(**msgspec.structs.asdict(coupon), book=render_book(book))
