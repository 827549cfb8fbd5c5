"""Take an assignment back. table.py takes it; KEYS and ARGV are in the order of lua/unassign.lua."""

from service.engine.domain.field_types import Nothing
from service.engine.formats import key_names
from service.engine.operations import document_parts as parts
from service.engine.operations.base import Call, Command, Operation, Texts, parse_code
from service.engine.operations.coupon_view import ChangedCoupon, render_change


def prepare(call: Call, code: str, request: Nothing) -> Command:
    caller, code = call.caller, parse_code(code)
    bucket = key_names.bucket_text(code)
    names = (*call.coupon_keys(code, bucket), caller.outbox)
    return Command("unassign", names, (call.fingerprint, code, bucket, call.encode_request("unassign")), render_change)


UNASSIGN = Operation(
    request=Nothing,
    prepare=prepare,
    answer=ChangedCoupon,
    status=200,
    durable=True,
    texts=Texts(
        summary="Take an assignment back",
        returns="The coupon, free again.",
        description="Take the coupon from its user, if no use of it is locked or spent. It no longer counts towards "
        "the user's limits. Scope `manage`.\n\nA coupon with several uses is refused with `coupon_redeemed` if some "
        "are spent, with `coupon_exhausted` if all are. The coupon may be inactive or outside its validity window.",
        example={},
        answer=parts.COUPON | {"status": "available", "userId": None, "assignedAt": None, "durability": "fsynced"},
    ),
)
