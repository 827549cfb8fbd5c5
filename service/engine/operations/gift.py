"""Give a user a free coupon of a book as an order's gift, once. table.py takes it. KEYS and ARGV are in the order of
lua/gift.lua; field names are in the API's JSON."""

from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import OrderId, Request, encode_field, is_caller_id
from service.engine.domain.uuids import parse_uuid
from service.engine.formats import key_names
from service.engine.operations import document_parts as parts
from service.engine.operations.assign import make_render
from service.engine.operations.base import Call, Command, Operation, Texts
from service.engine.operations.caller import resolve_user
from service.engine.operations.coupon_view import ChangedCoupon


class GiftRequest(Request):
    """The gift's book, and the order."""

    book_id: str
    order_id: OrderId


def prepare(call: Call, user: str, request: GiftRequest) -> Command:
    if not is_caller_id(user):
        raise Refusal("not_found")
    caller, book_id, order = call.caller, parse_uuid(request.book_id), encode_field(request.order_id)
    resolve_user(caller, user)  # refuses another user's token
    if book_id is None:
        raise Refusal("book_not_found")
    bucket, k = key_names.bucket_text(order), caller.keys
    names = (caller.gate, k.settings, call.answer_key, f"{k.gifts}{bucket}", k.books, caller.outbox)
    args = (call.fingerprint, str(book_id), encode_field(user), order, bucket, call.encode_request("gift"))
    return Command("gift", names, args, make_render(caller))


GIFT = Operation(
    request=GiftRequest,
    prepare=prepare,
    answer=ChangedCoupon,
    durable=True,
    texts=Texts(
        summary="Give an order's gift",
        returns="The gift, now the user's.",
        tag="Users",
        description="Give the user a random free coupon of a book, once for an order. Scope `checkout`.\n\nIf "
        "the order has a gift of another book or for another user, the refusal is `order_already_used`. After a "
        "rollback of the order its gift may be given again.",
        example={"bookId": parts.BOOK_ID, "orderId": "A-1001"},
        answer=parts.GIFT_COUPON | {"durability": "fsynced"},
        repeated="This order already has the gift.",
    ),
)
