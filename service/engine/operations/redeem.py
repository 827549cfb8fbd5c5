"""Redeem a coupon, or validate a redemption. table.py takes both. KEYS and ARGV are in the order of lua/redeem.lua and
validate.lua; field names are in the API's JSON."""

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec

from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import Answer, OrderId, UserId, encode_field
from service.engine.domain.figures import Figures, refuse_outcome
from service.engine.domain.money import Amount, from_e4
from service.engine.domain.outcomes import REPEATED, For
from service.engine.domain.sent_fields import encode_sent, with_sent
from service.engine.formats import key_names
from service.engine.formats.events import SENT
from service.engine.operations import document_parts as parts
from service.engine.operations.base import Call, Command, Operation, Rendered, Reply, Texts, encode, parse_code
from service.engine.operations.caller import Caller
from service.engine.operations.coupon_view import Coupon, parse_coupon, restrict
from service.engine.operations.lock import LockToken
from service.engine.operations.order_fields import ExpectedAmount, OrderFields, encode_asks, encode_claim, order_amounts
from service.engine.operations.redemption_view import DurableRedemption, redemption_json

NOT_AVAILABLE: list[str] = ["coupon_not_available"]
"""The reason for a `public` credential, also for an unknown coupon, unless the book tells the reasons."""
_HIDDEN = "-"
"""In the script's reply, for all reasons."""


@with_sent(SENT)
class _Use(OrderFields, kw_only=True):
    """Fields of both requests."""

    order_id: OrderId | None = None
    lock_token: LockToken | None = None

    @property
    def sent(self) -> dict[str, Any]:
        """For the event. Raises Refusal."""
        return encode_sent(SENT, self)


class ValidateRequest(_Use, kw_only=True):
    """A redemption to validate."""

    code: str
    user_id: UserId | None = None


class RedeemRequest(_Use, kw_only=True):
    """The user and the order. Amounts that are left out are those that its lock holds."""

    user_id: UserId
    expected_final_amount: ExpectedAmount | None = None


class ValidationRefusal(Figures, kw_only=True):
    """A refusal of a redeem, in words and figures."""

    code: str
    for_: For = msgspec.field(name="for")
    detail: str


class Validation(Answer):
    """Whether the coupon can be redeemed, every refusal that applies, and the discount."""

    valid: bool
    reasons: list[str]
    refusals: Annotated[
        list[ValidationRefusal],
        msgspec.Meta(description="The reasons, in words and figures; empty for `coupon_not_available`."),
    ]
    currency: Annotated[str | None, msgspec.Meta(description="The order's; null with `coupon_not_available`.")]
    discount_amount: Amount | None
    final_amount: Amount | None
    coupon: Coupon | None


def prepare_redeem(call: Call, code: str, request: RedeemRequest) -> Command:
    caller, code = call.caller, parse_code(code)
    order, user = encode_field(request.order_id), encode_field(request.user_id)
    value_e4, digits, items = order_amounts(request)
    sent = request.sent
    bucket_text = key_names.bucket_text
    bucket, order_bucket, user_bucket = bucket_text(code), bucket_text(order), bucket_text(user)
    orders, expected, asks = caller.keys.orders, request.expected_final_amount, "-"
    if expected is not None or request.amount is not None or caller.user is not None:  # nearly never: saves a call
        asks = encode_asks(caller, expected, request)
    names = (*call.coupon_keys(code, bucket), orders + order_bucket, caller.outbox, orders + user_bucket)
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
        call.encode_request("redeem", sent),
        digits,
        items,
        asks,
    )
    return Command("redeem", names, args, _render)


def _render(reply: Reply, durability: str) -> Rendered:
    body = redemption_json(reply[1], reply[2], None, durability)
    return Rendered(200 if reply[0] == REPEATED else 201, body, bool(reply[3]))


def prepare_validate(call: Call, code: str | None, request: ValidateRequest) -> Command:
    """Validate a redemption. A key with only the scope `public` gets no reason, unless the book tells it."""
    caller, order, user = call.caller, encode_field(request.order_id), encode_field(request.user_id)
    value_e4, digits, items = order_amounts(request)
    _ = request.sent  # may refuse
    code = parse_code(request.code)
    bucket, o = key_names.bucket_text(code), caller.keys.orders
    names = (*call.reading_keys(code, bucket), f"{o}{key_names.bucket(order)}", f"{o}{key_names.bucket(user)}")
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
        str(int(caller.sees_reasons)),
        encode_claim(caller, request),
    )

    def render(reply: Reply, durability: str) -> Rendered:
        discount, digits_text, currency, its_value_e4, *numbers = reply[1].split(" ")
        amount_digits = int(digits_text)
        is_hidden = numbers == [_HIDDEN]
        refusals = [_refuse(*number.split("/", 1)) for number in numbers if not is_hidden]
        reasons = NOT_AVAILABLE if is_hidden else [refusal.code for refusal in refusals]
        amount = final = None
        if not reasons:
            amount = from_e4(int(discount), amount_digits)
            final = None if its_value_e4 == "-" else from_e4(int(its_value_e4) - int(discount), amount_digits)
        coupon = parse_coupon(reply[2]) if caller.sees_reasons else None
        if coupon is not None and coupon.user_id not in (None, caller.user or coupon.user_id):
            coupon = None
        body = Validation(
            valid=not reasons,
            reasons=reasons,
            refusals=_describe(refusals),
            currency=None if is_hidden else currency,
            discount_amount=amount,
            final_amount=final,
            coupon=coupon and restrict(caller, coupon),
        )
        return Rendered(200, encode(body))

    return Command("validate", names, args, render)


def _refuse(number: str, figures: str | None = None) -> Refusal:
    return refuse_outcome(int(number), figures)


def _describe(refusals: Iterable[Refusal]) -> list[Any]:
    return [
        {"code": refusal.code, "for": refusal.outcome.for_, "detail": refusal.detail, **refusal.figures}
        for refusal in refusals
    ]


def answer_unknown_coupon(caller: Caller, refusal: Refusal) -> Rendered | None:
    """The validation of an unknown code."""
    if refusal.code != "coupon_not_found":
        return None
    reasons, refusals = (["coupon_not_found"], [refusal]) if caller.sees_reasons else (NOT_AVAILABLE, [])
    body = Validation(
        valid=False,
        reasons=reasons,
        refusals=_describe(refusals),
        currency=None,
        discount_amount=None,
        final_amount=None,
        coupon=None,
    )
    return Rendered(200, encode(body), rates=refusal.rates)


REDEEM = Operation(
    request=RedeemRequest,
    prepare=prepare_redeem,
    answer=DurableRedemption,
    durable=True,
    texts=Texts(
        summary="Redeem a coupon",
        returns="The redemption.",
        description="Spend one use of the coupon (the voucher, the promo code), with the discount that the book gives. "
        "Scope `checkout`.\n\nUnder a lock that holds a price, this is the price where the request sends the same "
        "amounts or none; others are priced anew. A key sends the amounts of a lock that a user's token made.",
        example=parts.ORDER,
        answer=parts.REDEMPTION | {"durability": "fsynced"},
        repeated="This user has already redeemed it for this order, which is still remembered, and the "
        "redemption was not rolled back.",
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
        returns="Whether a redeem would succeed, and with which amounts.",
        description="The result that a redeem would have, with every refusal that applies; changes nothing. Scope "
        "`public` or `checkout`.\n\nA key with only the scope `public` gets one reason: `coupon_not_available`. "
        "A book with `publicReasons` tells it `not_started`, `expired`, `order_value_too_low` and "
        "`order_value_required`, if no other reason applies.",
        example=parts.ORDER | {"code": "SUMMER-7QX2"},
        answer={
            "valid": True,
            "reasons": [],
            "refusals": [],
            "currency": "USD",
            "discountAmount": "24.00",
            "finalAmount": "96.00",
            "coupon": parts.COUPON,
        },
    ),
)
