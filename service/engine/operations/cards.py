"""Credit a card, or close it. table.py takes both. KEYS and ARGV are in the order of lua/adjust_card.lua; field names
are in the API's JSON."""

from typing import Annotated

from service.engine.domain.errors import BadField, refusal_from_field
from service.engine.domain.field_types import Request, check_text, text_schema
from service.engine.domain.money import PositiveMoney, to_e4
from service.engine.formats import key_names
from service.engine.operations import document_parts as parts
from service.engine.operations.base import Call, Command, Operation, Texts, parse_code
from service.engine.operations.coupon_view import ChangedCoupon, render_change

Reason = Annotated[str, text_schema(0, 500)]


class CreditRequest(Request):
    """An amount, in the currency of the card's book."""

    amount: PositiveMoney
    reason: Reason | None = None


class CloseRequest(Request):
    """Why the card is closed."""

    reason: Reason | None = None


def prepare_credit(call: Call, code: str, request: CreditRequest) -> Command:
    code = parse_code(code)
    try:
        amount_e4 = to_e4("amount", request.amount)
        if amount_e4 == 0:
            raise BadField("amount", "must be more than 0")
    except BadField as bad:
        raise refusal_from_field(bad) from None
    return _command(call, code, request.reason, "credit", str(amount_e4))


def prepare_close(call: Call, code: str, request: CloseRequest) -> Command:
    return _command(call, parse_code(code), request.reason, "close", "-")


def _command(call: Call, code: str, reason: str | None, op: str, amount: str) -> Command:
    try:
        check_text("reason", reason, 0, 500)
    except BadField as bad:
        raise refusal_from_field(bad) from None
    bucket = key_names.bucket_text(code)
    names = (*call.coupon_keys(code, bucket), call.caller.outbox)
    request = call.encode_request(op, reason=reason or "", by=_describe_caller(call))
    return Command("adjust_card", names, (call.fingerprint, code, bucket, request, amount), render_change)


def _describe_caller(call: Call) -> str:
    """Who changes it: `person:<person>` or `key:<key id>`, '' for a job."""
    caller = call.caller
    if caller.person is not None:
        return f"person:{caller.person}"
    return "" if caller.key_id is None else f"key:{caller.key_id}"


_CARD = parts.COUPON | {"code": "CARD-8RD3", "maxRedemptions": None}
_BALANCE = {"issued": "50.00", "credited": "0.00", "spent": "20.00", "held": "0.00", "closed": "0.00"}

CREDIT = Operation(
    request=CreditRequest,
    prepare=prepare_credit,
    answer=ChangedCoupon,
    status=200,
    durable=True,
    texts=Texts(
        summary="Credit a card",
        returns="The coupon with its new balance.",
        description="Add an amount to what is available of the card. Scope `manage`.\n\nA card that is used up, or was "
        "closed, can be used again. All that a card was ever issued and credited with is below 10¹¹.",
        example={"amount": "10.00", "reason": "Goodwill"},
        answer=_CARD | {"balance": _BALANCE | {"credited": "10.00", "available": "40.00"}, "durability": "fsynced"},
    ),
)
CLOSE = Operation(
    request=CloseRequest,
    prepare=prepare_close,
    answer=ChangedCoupon,
    status=200,
    durable=True,
    texts=Texts(
        summary="Close a card",
        returns="The coupon, of which nothing is available.",
        description="Take all that is available of the card, which then has the status `exhausted`. Scope `manage`.\n\n"
        "It is refused with `coupon_locked` while a live lock holds a part. What a credit or a rollback gives later is "
        "available again.",
        example={"reason": "Lost"},
        answer=_CARD
        | {
            "status": "exhausted",
            "balance": _BALANCE | {"closed": "30.00", "available": "0.00"},
            "durability": "fsynced",
        },
    ),
)
