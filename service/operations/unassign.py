"""Take an assignment back."""

from service.domain.field_types import Request
from service.formats import key_names
from service.operations.base import Call, Command, Operation, Rendered, Reply, code_of, encode, idempotency_of, packed
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


UNASSIGN = Operation("unassignCoupon", UnassignRequest, prepare, durable=True)
