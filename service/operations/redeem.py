"""Spend one use of a coupon; or say what would come of it."""

from typing import Any

from service.access.caller import Caller
from service.domain.decoding import refusal_from_field
from service.domain.errors import BadField, Refusal
from service.domain.field_types import Answer, OrderId, Request, UserId, encode_field, encode_metadata
from service.domain.money import Money, from_e4
from service.domain.outcomes import BY_NUMBER, REPEATED
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
from service.operations.coupon_view import Coupon, coupon_of, seen_by
from service.operations.lock import LockToken
from service.operations.order_fields import Currency, Items, order_amounts
from service.operations.redemption_view import DurableRedemption, redemption_json

METADATA_BYTES = 1 << 10
NOT_AVAILABLE: list[str] = ["coupon_not_available"]
"""All that a `public` credential hears of a coupon that can't be used, an unknown one included."""


class ValidateRequest(Request):
    """A use of a coupon to try out."""

    code: str
    user_id: UserId | None = None
    order_id: OrderId | None = None
    order_value: Money | None = None
    currency: Currency | None = None
    items: Items | None = None
    lock_token: LockToken | None = None
    metadata: dict[str, Any] | None = None


class RedeemRequest(Request):
    """Who uses the coupon, for which order, of what value."""

    user_id: UserId
    order_id: OrderId | None = None
    order_value: Money | None = None
    currency: Currency | None = None
    items: Items | None = None
    lock_token: LockToken | None = None
    metadata: dict[str, Any] | None = None


class Validation(Answer):
    """Whether the coupon could be redeemed so, every refusal that would apply, and the discount."""

    valid: bool
    reasons: list[str]
    discount_amount: str | None
    final_amount: str | None
    coupon: Coupon | None


def _metadata(request: RedeemRequest | ValidateRequest) -> bytes:
    try:
        return encode_metadata("metadata", request.metadata, METADATA_BYTES)
    except BadField as bad:
        raise refusal_from_field(bad) from None


def prepare_redeem(call: Call, code: str, request: RedeemRequest) -> Command:
    """Redeem a coupon."""
    caller, code = call.caller, code_of(code)
    order, user = encode_field(request.order_id), encode_field(request.user_id)
    value_e4, digits, items = order_amounts(request)
    metadata = _metadata(request)
    bucket, order_bucket, user_bucket = key_names.bucket(code), key_names.bucket(order), key_names.bucket(user)
    k = caller.keys
    names = (
        caller.gate, k.settings, idempotency_of(call), f"{k.directory}{bucket}", f"{k.coupon}{code}",
        f"{k.orders}{order_bucket}", caller.outbox, f"{k.orders}{user_bucket}",
    )  # fmt: skip
    args = (
        call.fingerprint,
        code,
        bucket,
        user,
        user_bucket,
        order,
        order_bucket,
        encode_field(request.lock_token),
        value_e4,
        request.currency or "-",
        packed(call, "redeem", metadata),
        digits,
        items,
    )
    return Command("redeem", names, args, _render)


def _render(reply: Reply, durability: str) -> Rendered:
    body = redemption_json(reply[1], reply[2], None, durability)
    return Rendered(200 if reply[0] == REPEATED else 201, body, bool(reply[3]))


def prepare_validate(call: Call, code: str | None, request: ValidateRequest) -> Command:
    """Say what a redeem would be answered. With a key of scope `public` alone it tells no reason."""
    caller, order, user = call.caller, encode_field(request.order_id), encode_field(request.user_id)
    value_e4, digits, items = order_amounts(request)
    _metadata(request)
    code = code_of(request.code)
    bucket, k = key_names.bucket(code), caller.keys
    names = (
        caller.gate, k.settings, k.answer, f"{k.directory}{bucket}", f"{k.coupon}{code}",
        f"{k.orders}{key_names.bucket(order)}", f"{k.orders}{key_names.bucket(user)}",
    )  # fmt: skip
    args = (
        "-",
        code,
        bucket,
        user,
        order,
        encode_field(request.lock_token),
        value_e4,
        request.currency or "-",
        digits,
        items,
        int(caller.sees_reasons),
    )

    def render(reply: Reply, durability: str) -> Rendered:
        discount, digits_text, *numbers = reply[1].split(" ")
        shown = int(digits_text)
        reasons = [BY_NUMBER[int(number)].code for number in numbers]
        amount = final = None
        if not reasons:
            amount = from_e4(int(discount), shown)
            final = None if value_e4 == "-" else from_e4(int(value_e4) - int(discount), shown)
        coupon = coupon_of(reply[2]) if caller.sees_reasons else None
        if coupon is not None and coupon.user_id not in (None, caller.user or coupon.user_id):
            coupon = None
        if reasons and not caller.sees_reasons:
            reasons = NOT_AVAILABLE
        body = Validation(
            valid=not reasons,
            reasons=reasons,
            discount_amount=amount,
            final_amount=final,
            coupon=coupon and seen_by(caller, coupon),
        )
        return Rendered(200, encode(body))

    return Command("validate", names, args, render)


def answer_unknown_coupon(caller: Caller, refusal: Refusal) -> Rendered | None:
    """Validate answers for a code that does not exist."""
    if refusal.code != "coupon_not_found":
        return None
    reasons = ["coupon_not_found"] if caller.sees_reasons else NOT_AVAILABLE
    body = Validation(valid=False, reasons=reasons, discount_amount=None, final_amount=None, coupon=None)
    return Rendered(200, encode(body), rates=refusal.rates)


REDEEM = Operation(
    request=RedeemRequest,
    prepare=prepare_redeem,
    answer=DurableRedemption,
    durable=True,
    texts=Texts(
        summary="Redeem a coupon",
        tag="Coupons",
        description="Spend one use, with the discount that the book gives. Scope `checkout`.",
        example=parts.ORDER | {"lockToken": parts.LOCK["lockToken"]},
        answer=parts.REDEMPTION | {"durability": "fsynced"},
        repeated="This user redeemed it for this order already, and it stands.",
        refusals=f"coupon_not_found {parts.WINDOW} {parts.HELD} {parts.USES} lock_lost lock_required {parts.FACTS} "
        f"{parts.TRAFFIC}",
    ),
)
VALIDATE = Operation(
    request=ValidateRequest,
    prepare=prepare_validate,
    answer=Validation,
    status=200,
    answer_refusal=answer_unknown_coupon,
    texts=Texts(
        summary="Validate a coupon",
        tag="Coupons",
        keyed=False,
        description="What a redeem would say, with every refusal that would apply; changes nothing. Scope `public` or "
        "`checkout`.\n\nA key with the scope `public` alone learns no reason: just `coupon_not_available`.",
        example=parts.ORDER | {"code": "SUMMER-7QX2"},
        answer={
            "valid": True,
            "reasons": [],
            "discountAmount": "24.00",
            "finalAmount": "96.00",
            "coupon": parts.COUPON,
        },
    ),
)
