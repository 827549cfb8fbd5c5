"""Give a user a free coupon of a book as the gift of an order, once."""

from typing import Annotated

import msgspec

from service.access.caller import own_user
from service.domain.errors import Refusal
from service.domain.field_types import OrderId, Request, is_caller_id, own_id, word
from service.formats import key_names
from service.operations.assign import rendering
from service.operations.base import Call, Command, Operation, idempotency_of, packed


class GiftRequest(Request):
    """Of which book, for which order."""

    book_id: Annotated[str, msgspec.Meta(description="The book's id.")]
    order_id: OrderId


def prepare(call: Call, user: str, request: GiftRequest) -> Command:
    """Give an order's gift."""
    if not is_caller_id(user):
        raise Refusal("not_found")
    caller, book_id, order = call.caller, own_id(request.book_id), word(request.order_id)
    own_user(caller, user)
    if book_id is None:
        raise Refusal("book_not_found")
    bucket, k = key_names.bucket(order), caller.keys
    names = (caller.gate, k.settings, idempotency_of(call), f"{k.gifts}{bucket}", k.books, caller.outbox)
    args = (call.fingerprint, str(book_id), word(user), order, bucket, packed(call, "gift"))
    return Command("gift", names, args, rendering(caller))


GIFT = Operation("giveGift", GiftRequest, prepare, durable=True)
