"""Give a coupon to a user: a named one, or a random free one of a book."""

from typing import Annotated

import msgspec

from service.access.caller import Caller
from service.domain.errors import Refusal
from service.domain.field_types import Request, UserId, encode_field, parse_uuid
from service.domain.outcomes import REPEATED
from service.formats import key_names
from service.operations import document_parts as parts
from service.operations.base import (
    Call,
    Command,
    Operation,
    Render,
    Rendered,
    Reply,
    Texts,
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
    caller, book_id = call.caller, parse_uuid(request.book_id)
    if book_id is None:
        raise Refusal("book_not_found")
    names = (caller.gate, caller.keys.settings, idempotency_of(call), caller.keys.books, caller.outbox)
    args = (call.fingerprint, str(book_id), encode_field(request.user_id), packed(call, "assign"))
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
    args = (call.fingerprint, code, bucket, encode_field(request.user_id), packed(call, "assign"))
    return Command("assign_code", names, args, rendering(caller))


def rendering(caller: Caller) -> Render:
    """Makes the answer: the coupon, now assigned, as the caller sees it."""

    def render(reply: Reply, durability: str) -> Rendered:
        coupon = AssignedCoupon(**fields_of(reply[1]), durability=durability)  # type: ignore[arg-type]
        return Rendered(200 if reply[0] == REPEATED else 201, encode(seen_by(caller, coupon)), bool(reply[3]))

    return render


ASSIGN_ANY = Operation(
    request=AssignAny,
    prepare=prepare_any,
    answer=AssignedCoupon,
    durable=True,
    texts=Texts(
        summary="Assign a free coupon",
        tag="Coupons",
        description="Give a user a random free coupon of a book. Scope `checkout`.",
        example={"bookId": parts.BOOK_ID, "userId": "user-42"},
        answer=parts.COUPON | {"durability": "fsynced"},
        refusals=f"book_not_found {parts.ASSIGN} out_of_stock {parts.TRAFFIC}",
    ),
)
ASSIGN_CODE = Operation(
    request=AssignCode,
    prepare=prepare_code,
    answer=AssignedCoupon,
    durable=True,
    texts=Texts(
        summary="Assign a coupon",
        tag="Coupons",
        description="Give a user this coupon. Scope `checkout`.",
        example={"userId": "user-42"},
        answer=parts.COUPON | {"durability": "fsynced"},
        repeated="It was this user's already.",
        refusals=f"coupon_not_found coupon_inactive {parts.ASSIGN} coupon_assigned_to_other coupon_locked "
        f"coupon_redeemed coupon_exhausted {parts.TRAFFIC}",
    ),
)
