"""Assign a coupon to a user: a named one, or a random free one of a book. table.py and batch.py take it. KEYS and ARGV
are in the order of lua/assign_any.lua and assign_code.lua; field names are in the API's JSON."""

from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import Request, UserId, encode_field
from service.engine.domain.outcomes import REPEATED
from service.engine.domain.uuids import parse_uuid
from service.engine.formats import key_names
from service.engine.operations import document_parts as parts
from service.engine.operations.base import Call, Command, Operation, Render, Rendered, Reply, Texts, encode, parse_code
from service.engine.operations.caller import Caller
from service.engine.operations.coupon_view import ChangedCoupon, parse_view, restrict


class AssignAny(Request):
    """The book, and the user who gets one of its free coupons."""

    book_id: str
    user_id: UserId


class AssignCode(Request):
    """The user who gets the coupon."""

    user_id: UserId


def prepare_any(call: Call, code: str | None, request: AssignAny) -> Command:
    caller, book_id = call.caller, parse_uuid(request.book_id)
    if book_id is None:
        raise Refusal("book_not_found")
    names = (caller.gate, caller.keys.settings, call.answer_key, caller.keys.books, caller.outbox)
    args = (call.fingerprint, str(book_id), encode_field(request.user_id), call.encode_request("assign"))
    return Command("assign_any", names, args, make_render(caller))


def prepare_code(call: Call, code: str, request: AssignCode) -> Command:
    caller, code = call.caller, parse_code(code)
    bucket = key_names.bucket_text(code)
    names = (*call.coupon_keys(code, bucket), caller.outbox)
    args = (call.fingerprint, code, bucket, encode_field(request.user_id), call.encode_request("assign"))
    return Command("assign_code", names, args, make_render(caller))


def make_render(caller: Caller) -> Render:

    def render(reply: Reply, durability: str) -> Rendered:
        coupon = ChangedCoupon(**parse_view(reply[1]), durability=durability)  # type: ignore[arg-type]
        return Rendered(200 if reply[0] == REPEATED else 201, encode(restrict(caller, coupon)), bool(reply[3]))

    return render


ASSIGN_ANY = Operation(
    request=AssignAny,
    prepare=prepare_any,
    answer=ChangedCoupon,
    durable=True,
    texts=Texts(
        summary="Assign a free coupon",
        returns="The coupon, now the user's.",
        description="Give a user a random free coupon of a book. Scope `checkout`.",
        example={"bookId": parts.BOOK_ID, "userId": "user-42"},
        answer=parts.COUPON | {"durability": "fsynced"},
    ),
)
ASSIGN_CODE = Operation(
    request=AssignCode,
    prepare=prepare_code,
    answer=ChangedCoupon,
    durable=True,
    texts=Texts(
        summary="Assign a coupon",
        returns="The coupon, now the user's.",
        description="Give a user this coupon. Scope `checkout`.",
        example={"userId": "user-42"},
        answer=parts.COUPON | {"durability": "fsynced"},
        repeated="The user already has this coupon.",
    ),
)
