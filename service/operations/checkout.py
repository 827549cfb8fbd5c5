"""Complete a purchase: redeem its coupon and give its gift, as one change."""

from typing import Annotated

import msgspec

from service.domain.errors import Refusal, invalid
from service.domain.field_types import Answer, OrderId, Request, UserId, encode_field, parse_uuid
from service.domain.money import CURRENCY_DIGITS, Money, from_e4
from service.domain.outcomes import REPEATED
from service.formats import key_names
from service.operations import document_parts as parts
from service.operations.base import (
    Call,
    Command,
    Operation,
    Rendered,
    Reply,
    Texts,
    code_of,
    encode,
    idempotency_of,
    packed,
)
from service.operations.coupon_view import Coupon, Durability, coupon_of, seen_by
from service.operations.lock import LockToken
from service.operations.order_fields import Currency, Items, order_amounts
from service.operations.redemption_view import Redemption, final_amount_of, redemption_json

_NO_CODE = "-"


class CheckoutRequest(Request):
    """Who buys, which order, and with which coupon."""

    user_id: UserId
    order_id: OrderId
    order_value: Money
    currency: Currency | None = None
    items: Items | None = None
    code: Annotated[str | None, msgspec.Meta(description="The coupon's code, in any case.")] = None
    lock_token: LockToken | None = None
    gift_book_id: Annotated[
        str | None,
        msgspec.Meta(description="The book of the gift; else the redeemed book's `giftBookId`, else the workspace's."),
    ] = None


class Purchase(Answer):
    """What came of a purchase; `gift` is null where there is none to give, or the user may have no more."""

    redemption: Redemption | None
    gift: Coupon | None
    final_amount: str
    durability: Durability


def prepare(call: Call, code: str | None, request: CheckoutRequest) -> Command:
    """Complete a purchase; its code is in the request."""
    if request.lock_token is not None and request.code is None:
        raise invalid("lockToken", "goes with a code")
    caller, order, user = call.caller, encode_field(request.order_id), encode_field(request.user_id)
    bought_with = _NO_CODE if request.code is None else code_of(request.code)
    gift_book = None if request.gift_book_id is None else parse_uuid(request.gift_book_id)
    if request.gift_book_id is not None and gift_book is None:
        raise Refusal("book_not_found")
    value_e4, digits, items = order_amounts(request)
    bucket, order_bucket, user_bucket = key_names.bucket(bought_with), key_names.bucket(order), key_names.bucket(user)
    k = caller.keys
    names = (
        caller.gate, k.settings, idempotency_of(call), f"{k.directory}{bucket}", f"{k.coupon}{bought_with}",
        f"{k.orders}{order_bucket}", caller.outbox, f"{k.gifts}{order_bucket}", k.books, f"{k.orders}{user_bucket}",
    )  # fmt: skip
    args = (
        call.fingerprint,
        bought_with,
        bucket,
        user,
        user_bucket,
        order,
        order_bucket,
        encode_field(request.lock_token),
        value_e4,
        request.currency or "-",
        packed(call, "checkout"),
        digits,
        items,
        encode_field(None if gift_book is None else str(gift_book)),
    )

    def render(reply: Reply, durability: str) -> Rendered:
        workspace_digits, _, gift = reply[4].partition(" ")
        redemption = msgspec.Raw(redemption_json(reply[1], reply[2], None)) if reply[1] else None
        final = final_amount_of(reply[1]) if reply[1] else None
        if final is None:
            shown = CURRENCY_DIGITS[request.currency] if request.currency else int(workspace_digits)
            final = from_e4(int(value_e4), shown)
        body = Purchase(
            redemption=redemption,  # type: ignore[arg-type]
            gift=None if gift == "-" else seen_by(caller, coupon_of(gift)),
            final_amount=final,
            durability=durability,  # type: ignore[arg-type]
        )
        return Rendered(200 if reply[0] == REPEATED else 201, encode(body), bool(reply[3]))

    return Command("checkout", names, args, render)


CHECKOUT = Operation(
    request=CheckoutRequest,
    prepare=prepare,
    answer=Purchase,
    durable=True,
    texts=Texts(
        summary="Complete a purchase",
        tag="Coupons",
        description="Redeem the order's coupon and give its gift, as one change; either may be missing. Scope "
        "`checkout`.\n\nThe gift is a free code of `giftBookId`, else of the redeemed book's gift book, else of the "
        "workspace's. Where there is none, none is free, or the user may have no more, `gift` is null and the sale "
        "stands. Repeated, it gives no second gift, nor one that there was none of at first.",
        example={"userId": "user-42", "orderId": "A-1001", "orderValue": "120.00", "code": "SUMMER-7QX2"},
        answer={
            "redemption": parts.REDEMPTION,
            "gift": parts.GIFT_COUPON,
            "finalAmount": "96.00",
            "durability": "fsynced",
        },
        repeated="This user completed this order already.",
        refusals="book_not_found coupon_not_found coupon_inactive book_inactive not_started expired "
        "coupon_not_assigned coupon_assigned_to_other coupon_locked lock_lost lock_required coupon_redeemed "
        "coupon_exhausted user_redemption_limit out_of_stock order_already_used currency_mismatch order_value_too_low "
        f"{parts.TRAFFIC}",
    ),
)
