"""Single coupons: each made together with a book of its own; and those of a time that can be used now."""

import asyncio
from typing import Any

import msgspec
from litestar import Controller, Request, Response, get, post

from service.access.caller import Caller
from service.api.auth import caller
from service.api.configuration_writes import Change
from service.api.context import Context
from service.api.controllers import books
from service.api.controllers.histories import read_coupon
from service.api.documented import documented
from service.api.idempotency import Answered, once
from service.api.reading import Listing, json_bytes, position, query
from service.domain.book_requests import Book, render_book
from service.domain.configuration import BookRow, CodeRow
from service.domain.decoding import decode
from service.domain.errors import Refusal
from service.domain.field_types import Answer
from service.domain.single_coupon_requests import Generated, SingleCoupon, TimeSpecific, UserSpecific
from service.formats import page_cursors
from service.operations.coupon_view import Coupon
from service.operations.document_parts import COUPON
from service.record.config.single_coupon_rows import create_single, page_active

_user_specific = msgspec.json.Decoder(UserSpecific)
_time_specific = msgspec.json.Decoder(TimeSpecific)
_generated = msgspec.json.Decoder(Generated)

_DISCOUNT = {"discountType": "percentage", "discountValue": 20, "maxDiscountAmount": "50.00"}
_WINDOW = {"validFrom": "2026-11-27T00:00:00Z", "validUntil": "2026-12-01T00:00:00Z", "maxUsesPerUser": 1}
_EXAMPLE = COUPON | {"book": books.EXAMPLE}
_OPEN = COUPON | {"status": "available", "userId": None, "assignedAt": None, "book": books.EXAMPLE}
_REFUSALS = "code_exists outcome_unknown"


class CouponInBook(Coupon, kw_only=True):
    """A coupon, with the book that was made for it."""

    book: Book


class ActivePage(Answer):
    """A page of coupons with their books, newest first."""

    items: list[CouponInBook]
    next_cursor: str | None


class SingleCoupons(Controller):
    """Coupons in books of their own."""

    path = "/v1/coupons"

    @post(
        "/user-specific",
        **documented(
            "createUserSpecific", "Create a coupon for one user", "Coupons", body=UserSpecific,
            example={"userId": "user-42", "code": "SUMMER-7QX2"} | _DISCOUNT, answer=_EXAMPLE, refusals=_REFUSALS,
            idempotent=True, located=True,
        ),
    )  # fmt: skip
    async def user_specific(self, request: Request[Any, Any, Any]) -> Response[CouponInBook]:
        """Make a coupon that is the user's from the start, in a book of its own. Scope `manage`."""
        return await _make(request, _user_specific)

    @post(
        "/time-specific",
        **documented(
            "createTimeSpecific", "Create a coupon for a time", "Coupons", body=TimeSpecific,
            example={"code": "SUMMER-7QX2"} | _WINDOW | _DISCOUNT, answer=_OPEN | {"maxRedemptions": None},
            refusals=_REFUSALS, idempotent=True, located=True,
        ),
    )  # fmt: skip
    async def time_specific(self, request: Request[Any, Any, Any]) -> Response[CouponInBook]:
        """Make a coupon that may be used from `validFrom` until just before `validUntil`, in a book of its own.

        Scope `manage`."""
        return await _make(request, _time_specific)

    @post(
        "/generate",
        **documented(
            "generateCoupon", "Create a coupon", "Coupons", body=Generated,
            example={"discountType": "fixed", "discountValue": "5.00"}, answer=_OPEN, refusals=_REFUSALS,
            idempotent=True, located=True,
        ),
    )  # fmt: skip
    async def generate(self, request: Request[Any, Any, Any]) -> Response[CouponInBook]:
        """Make a coupon in a book of its own. Scope `manage`."""
        return await _make(request, _generated)

    @get(
        "/active/time-specific",
        **documented(
            "listActiveTimeSpecific", "List the coupons of this time", "Coupons", query=Listing,
            answer={"items": [_OPEN], "nextCursor": None},
        ),
    )  # fmt: skip
    async def active(self, request: Request[Any, Any, Any]) -> ActivePage:
        """Time-specific coupons within their window that are not switched off, nor their books; newest first.

        Used up or not. Scope `checkout` or `manage`."""
        who = caller(request)
        asked = query(request, Listing)
        context: Context = request.app.state.context
        rows = await page_active(context.pool, who.workspace, asked.limit + 1, position(asked, page_cursors.ACTIVE))
        found = await asyncio.gather(*(_shown_if_there(request, who, book, code) for book, code in rows[: asked.limit]))
        return ActivePage(
            items=[item for item in found if item is not None],
            next_cursor=page_cursors.ACTIVE.encode_next(rows, asked.limit, lambda row: (row[0].book,)),
        )


async def _make(request: Request[Any, Any, Any], decoder: "msgspec.json.Decoder[Any]") -> Response[CouponInBook]:
    who = caller(request)
    query(request)
    body = await json_bytes(request)
    said: SingleCoupon = decode(decoder, body)
    context: Context = request.app.state.context
    change = Change(context, who.partition)

    async def act() -> Answered[CouponInBook]:
        book, code = await create_single(context.pool, who.workspace, who.partition, said)
        await change.projected(book.version, _write(context, book, code))
        try:
            made = await _shown(request, who, book, code.code)
        except Refusal as refusal:  # it was made, it just can't be shown
            raise Refusal("outcome_unknown", retry_after_ms=refusal.retry_after_ms or 1000) from refusal
        return Answered(status=201, body=made, location=f"/v1/coupons/{code.code}")

    return await once(request, who, body, act, user=said.user_id)


async def _write(context: Context, book: BookRow, code: CodeRow) -> None:
    """Into Redis, the book first: a code with a limit of its own is entered by its book's rules."""
    await context.projector.book(book)
    await context.projector.coupon(code)


async def _shown(request: Request[Any, Any, Any], who: Caller, book: BookRow, code: str) -> CouponInBook:
    coupon = await read_coupon(request, who, code)
    return CouponInBook(**msgspec.structs.asdict(coupon), book=render_book(book))


async def _shown_if_there(
    request: Request[Any, Any, Any], who: Caller, book: BookRow, code: str
) -> CouponInBook | None:
    """None where it is being made just now, and not in Redis yet."""
    try:
        return await _shown(request, who, book, code)
    except Refusal as refusal:
        if refusal.code != "coupon_not_found":
            raise
        return None
