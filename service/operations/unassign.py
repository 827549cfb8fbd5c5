"""Take an assignment back."""

from service.domain.field_types import Request
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
from service.operations.coupon_view import Coupon, Durability, fields_of


class UnassignRequest(Request):
    """Nothing is asked but the code."""


class UnassignedCoupon(Coupon):
    """A coupon that is nobody's now, and how safe that is."""

    durability: Durability


def prepare(call: Call, code: str, request: UnassignRequest) -> Command:
    """Take a coupon from its user."""
    caller, code = call.caller, code_of(code)
    bucket = key_names.bucket(code)
    k = caller.keys
    names = (
        caller.gate,
        k.settings,
        idempotency_of(call),
        f"{k.directory}{bucket}",
        f"{k.coupon}{code}",
        caller.outbox,
    )
    return Command("unassign", names, (call.fingerprint, code, bucket, packed(call, "unassign")), _render)


def _render(reply: Reply, durability: str) -> Rendered:
    body = UnassignedCoupon(**fields_of(reply[1]), durability=durability)  # type: ignore[arg-type]
    return Rendered(200, encode(body), bool(reply[3]))


UNASSIGN = Operation(
    request=UnassignRequest,
    prepare=prepare,
    answer=UnassignedCoupon,
    status=200,
    durable=True,
    texts=Texts(
        summary="Take an assignment back",
        tag="Coupons",
        description="Take the coupon from its user, while nothing of it is locked or used; it then counts nowhere. "
        "Scope `manage`.\n\nOne of whose uses some are spent is `coupon_redeemed`, and `coupon_exhausted` when all "
        "are. Neither a coupon that is switched off nor a window that is over is in the way.",
        example={},
        answer=parts.COUPON | {"status": "available", "userId": None, "assignedAt": None, "durability": "fsynced"},
        refusals=f"coupon_not_found coupon_not_assigned coupon_locked coupon_redeemed coupon_exhausted {parts.TRAFFIC}",
    ),
)
