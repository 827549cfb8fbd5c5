"""Complete a purchase: redeem its coupon and give its gift, as one change. table.py takes it. KEYS and ARGV are in the
order of lua/checkout.lua; field names are in the API's JSON."""

from typing import Annotated

import msgspec

from service.engine.domain.errors import Refusal, invalid
from service.engine.domain.field_types import Answer, OrderId, Request, UserId, encode_field
from service.engine.domain.money import CURRENCY_DIGITS, Amount, Money, from_e4
from service.engine.domain.outcomes import REPEATED
from service.engine.domain.sent_fields import encode_sent, with_sent
from service.engine.domain.uuids import parse_uuid
from service.engine.formats import key_names
from service.engine.formats.events import SENT, parse_record
from service.engine.operations import document_parts as parts
from service.engine.operations.base import Call, Command, Operation, Rendered, Reply, Texts, encode, parse_code
from service.engine.operations.coupon_view import Code, Coupon, Durability, parse_coupon, restrict
from service.engine.operations.lock import LockToken
from service.engine.operations.order_fields import (
    CardAmount,
    Currency,
    ExpectedAmount,
    Items,
    encode_asks,
    order_amounts,
)
from service.engine.operations.redemption_view import Redemption, compute_final_amount, redemption_json

_NO_CODE = "-"
_SENT = {name: field for name, field in SENT.items() if field.sent.in_checkout}


@with_sent(_SENT)
class CheckoutRequest(Request):
    """The user, the order and its coupon."""

    user_id: UserId
    order_id: OrderId
    order_value: Money
    currency: Currency | None = None
    items: Items | None = None
    code: Code | None = None
    lock_token: LockToken | None = None
    amount: CardAmount | None = None
    expected_final_amount: ExpectedAmount | None = None
    gift_book_id: Annotated[
        str | None,
        msgspec.Meta(description="Default: the redeemed book's `giftBookId`, else the workspace's."),
    ] = None


class Purchase(Answer):
    """A completed purchase; `gift` is null if no gift is available or the user has reached a limit."""

    redemption: Redemption | None
    gift: Coupon | None
    final_amount: Amount
    durability: Durability


def prepare(call: Call, code: str | None, request: CheckoutRequest) -> Command:
    """Complete a purchase. The path has no code."""
    if request.lock_token is not None and request.code is None:
        raise invalid("lockToken", "goes with a code")
    caller, order, user = call.caller, encode_field(request.order_id), encode_field(request.user_id)
    used_code = _NO_CODE if request.code is None else parse_code(request.code)
    gift_book = None if request.gift_book_id is None else parse_uuid(request.gift_book_id)
    if request.gift_book_id is not None and gift_book is None:  # no book has such an id
        raise Refusal("book_not_found")
    value_e4, digits, items = order_amounts(request)  # type: ignore[arg-type]  # it has these fields
    asks = encode_asks(caller, request.expected_final_amount, request)  # type: ignore[arg-type]  # as above
    if request.amount is not None and request.code is None:
        raise invalid("amount", "goes with a code")
    bucket_text = key_names.bucket_text
    bucket, order_bucket, user_bucket = bucket_text(used_code), bucket_text(order), bucket_text(user)
    k = caller.keys
    names = (
        *call.coupon_keys(used_code, bucket),
        f"{k.orders}{order_bucket}",
        caller.outbox,
        f"{k.gifts}{order_bucket}",
        k.books,
        f"{k.orders}{user_bucket}",
    )
    args = (
        call.fingerprint,
        used_code,
        bucket,
        user,
        user_bucket,
        order,
        order_bucket,
        encode_field(request.lock_token),
        value_e4,
        request.currency or "-",
        call.encode_request("checkout", encode_sent(_SENT, request)),
        digits,
        items,
        encode_field(None if gift_book is None else str(gift_book)),
        asks,
    )

    def render(reply: Reply, durability: str) -> Rendered:
        outcome, record, book_id, replayed, rest = reply
        workspace_digits, _, gift = rest.partition(" ")
        redemption = msgspec.Raw(redemption_json(record, book_id, None)) if record else None
        final = compute_final_amount(parse_record(record)) if record else None
        if final is None:
            final_digits = CURRENCY_DIGITS[request.currency] if request.currency else int(workspace_digits)
            final = from_e4(int(value_e4), final_digits)
        body = Purchase(
            redemption=redemption,  # type: ignore[arg-type]
            gift=None if gift == "-" else restrict(caller, parse_coupon(gift)),
            final_amount=final,
            durability=durability,  # type: ignore[arg-type]
        )
        return Rendered(200 if outcome == REPEATED else 201, encode(body), bool(replayed))

    return Command("checkout", names, args, render)


CHECKOUT = Operation(
    request=CheckoutRequest,
    prepare=prepare,
    answer=Purchase,
    durable=True,
    texts=Texts(
        summary="Complete a purchase",
        returns="The redemption and the gift.",
        description="Redeem the order's coupon and give its gift, as one change; either may be missing. Scope "
        "`checkout`.\n\nThe gift is a free code of `giftBookId`, else of the redeemed book's gift book, else of the "
        "workspace's. If there is no such book or no free code, or the user has reached a limit, `gift` is null. A "
        "repeated request gives no further gift.",
        example={"userId": "user-42", "orderId": "A-1001", "orderValue": "120.00", "code": "SUMMER-7QX2"},
        answer={
            "redemption": parts.REDEMPTION,
            "gift": parts.GIFT_COUPON,
            "finalAmount": "96.00",
            "durability": "fsynced",
        },
        repeated="This user has already completed this order.",
    ),
)
