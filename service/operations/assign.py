"""Give a coupon to a user: a named one, or a random free one of a book."""

from typing import Annotated

import msgspec

from service.access.caller import Caller
from service.domain.errors import Refusal
from service.domain.field_types import Request, UserId, own_id, word
from service.domain.outcomes import REPEATED
from service.formats import key_names
from service.operations.base import (
    Call,
    Command,
    Operation,
    Render,
    Rendered,
    Reply,
    code_of,
    encode,
    idempotency_of,
    packed,
)
from service.operations.coupon_view import AssignedCoupon, fields_of, seen_by


class AssignAny(Request):
    """Who gets a free coupon of which book."""

    book_id: Annotated[str, msgspec.Meta(description="The book's id.")]
    user_id: UserId


class AssignCode(Request):
    """Who gets the coupon."""

    user_id: UserId


def prepare_any(call: Call, code: str | None, request: AssignAny) -> Command:
    """Assign a random free coupon of a book."""
    caller, book_id = call.caller, own_id(request.book_id)
    if book_id is None:
        raise Refusal("book_not_found")
    names = (caller.gate, caller.keys.settings, idempotency_of(call), caller.keys.books, caller.outbox)
    args = (call.fingerprint, str(book_id), word(request.user_id), packed(call, "assign"))
    return Command("assign_any", names, args, rendering(caller))


def prepare_code(call: Call, code: str, request: AssignCode) -> Command:
    """Assign a named coupon."""
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
    args = (call.fingerprint, code, bucket, word(request.user_id), packed(call, "assign"))
    return Command("assign_code", names, args, rendering(caller))


def rendering(caller: Caller) -> Render:
    """Makes the answer: the coupon, now assigned, as the caller sees it."""

    def render(reply: Reply, durability: str) -> Rendered:
        coupon = AssignedCoupon(**fields_of(reply[1]), durability=durability)  # type: ignore[arg-type]
        return Rendered(200 if reply[0] == REPEATED else 201, encode(seen_by(caller, coupon)), bool(reply[3]))

    return render


ASSIGN_ANY = Operation("assignAny", AssignAny, prepare_any, durable=True)
ASSIGN_CODE = Operation("assignCode", AssignCode, prepare_code, durable=True)
