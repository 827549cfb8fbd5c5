"""Roll back a redemption, or all redemptions of an order. table.py takes both. KEYS and ARGV are in the order of
lua/rollback.lua and rollback_order.lua; field names are in the API's JSON."""

from typing import Annotated

import msgspec

from service.engine.domain.errors import BadField, Refusal, refusal_from_field
from service.engine.domain.field_types import Answer, Request, check_text, encode_field, is_caller_id, text_schema
from service.engine.domain.uuids import parse_uuid
from service.engine.formats import key_names
from service.engine.formats.redemption_id import event_text_of
from service.engine.operations import document_parts as parts
from service.engine.operations.base import Call, Command, Operation, Rendered, Reply, Texts, encode
from service.engine.operations.coupon_view import Durability
from service.engine.operations.redemption_view import DurableRedemption, Redemption, redemption_json


class RollbackRequest(Request):
    """The reason, and whether code, user, book and order get their use back."""

    reason: Annotated[str, text_schema(0, 500)] | None = None
    restore: bool | None = None


class RolledBack(Answer):
    """The order's rolled-back redemptions, and the durability of their rollback."""

    items: list[Redemption]
    durability: Durability


def _arguments(call: Call, request: RollbackRequest) -> tuple[str, str, str]:
    try:
        check_text("reason", request.reason, 0, 500)
    except BadField as bad:
        raise refusal_from_field(bad) from None
    restore = "0" if request.restore is False else "1"
    return call.fingerprint, restore, call.encode_request("rollback", reason=request.reason or "")


def prepare_redemption(call: Call, redemption: str, request: RollbackRequest) -> Command:
    redemption_id = parse_uuid(redemption)
    if redemption_id is None:
        raise Refusal("redemption_not_found")
    caller = call.caller
    names = (caller.gate, caller.keys.settings, call.answer_key, caller.outbox)
    args = (*_arguments(call, request), str(redemption_id), event_text_of(redemption_id))
    return Command("rollback", names, args, _render)


def prepare_order(call: Call, order: str, request: RollbackRequest) -> Command:
    if not is_caller_id(order):
        raise Refusal("order_not_found")
    caller, k = call.caller, call.caller.keys
    bucket = key_names.bucket(encode_field(order))
    names = (caller.gate, k.settings, call.answer_key, f"{k.orders}{bucket}", caller.outbox, f"{k.gifts}{bucket}")
    return Command("rollback_order", names, (*_arguments(call, request), encode_field(order)), _render_order)


def _render(reply: Reply, durability: str) -> Rendered:
    return Rendered(200, redemption_json(reply[1], reply[2], int(reply[4]), durability), bool(reply[3]))


def _render_order(reply: Reply, durability: str) -> Rendered:
    records: list[str] = reply[1].split("\n") if reply[1] else []  # none if the order had only a gift
    pairs = zip(records, reply[2].split(" ") if records else [], strict=True)
    items = [msgspec.Raw(redemption_json(record, book_id, int(reply[4]))) for record, book_id in pairs]
    body = RolledBack(items=items, durability=durability)  # type: ignore[arg-type]
    return Rendered(200, encode(body), bool(reply[3]))


ROLLBACK = Operation(
    request=RollbackRequest,
    prepare=prepare_redemption,
    answer=DurableRedemption,
    status=200,
    durable=True,
    texts=Texts(
        summary="Roll a redemption back",
        returns="The redemption, rolled back.",
        tag="Redemptions",
        description="Roll a redemption back, once, such as for a refund. With `restore`, code, user, book and order "
        "get the use back; the assignment stays. Scope `manage`.",
        example={"reason": "Order cancelled", "restore": True},
        answer=parts.REDEMPTION | {"rolledBackAt": "2026-11-20T10:00:00.000Z", "durability": "fsynced"},
    ),
)
ROLLBACK_ORDER = Operation(
    request=RollbackRequest,
    prepare=prepare_order,
    answer=RolledBack,
    status=200,
    durable=True,
    texts=Texts(
        summary="Roll an order back",
        returns="The redemptions that this request rolled back.",
        tag="Redemptions",
        description="Roll back all redemptions of the order that were not rolled back before, such as for a refund or "
        "a cancelled order. Scope `manage`.",
        example={"reason": "Order cancelled"},
        answer={"items": [parts.REDEMPTION | {"rolledBackAt": "2026-11-20T10:00:00.000Z"}], "durability": "fsynced"},
    ),
)
