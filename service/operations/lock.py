"""Hold one use of a coupon for a user and an order: lock, extend, unlock."""

import secrets
from typing import Annotated

import msgspec

from service.domain.field_types import (
    Answer,
    Count,
    OrderId,
    Request,
    UserId,
    decode_field,
    decode_id,
    encode_field,
    quote_json,
)
from service.domain.outcomes import REPEATED
from service.domain.times import from_ms
from service.formats import key_names
from service.operations import document_parts as parts
from service.operations.base import Call, Command, Operation, Rendered, Reply, Texts, code_of, idempotency_of
from service.operations.coupon_view import Time

TOKENS_DRAWN = 64
_drawn: list[str] = []

LockToken = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[!-~]{1,64}$(?![\s\S])", description="What the lock's answer named.", examples=["q1W2e3R4t5Y6u7I8"]
    ),
]
LockSeconds = Annotated[Count, msgspec.Meta(description="The lock's life from now, cut at the book's ceiling.")]


class LockRequest(Request):
    """For whom, for which order, and for how long."""

    user_id: UserId
    order_id: OrderId | None = None
    lock_seconds: LockSeconds | None = None


class ExtendRequest(Request):
    """The live lock's token."""

    lock_token: LockToken
    lock_seconds: LockSeconds | None = None


class UnlockRequest(Request):
    """The lock's token."""

    lock_token: LockToken


class Lock(Answer):
    """A live lock; its token redeems, extends or releases it."""

    lock_token: str
    code: str
    book_id: str
    user_id: str
    order_id: str | None
    expires_at: Time


def _names(call: Call, code: str, bucket: int) -> tuple[str, ...]:
    caller, k = call.caller, call.caller.keys
    return (caller.gate, k.settings, idempotency_of(call), f"{k.directory}{bucket}", f"{k.coupon}{code}")


def _token() -> str:
    """16 characters of 6 random bits each, drawn for many locks at once: a system call for each would take 0.5 µs."""
    try:
        return _drawn.pop()
    except IndexError:
        text = secrets.token_urlsafe(12 * TOKENS_DRAWN)
        _drawn.extend(text[at : at + 16] for at in range(16, len(text), 16))
        return text[:16]


def _ms(seconds: int | None) -> str | int:
    return "-" if seconds is None else seconds * 1000


def prepare_lock(call: Call, code: str, request: LockRequest) -> Command:
    """Lock a coupon, or renew the lock of the same user and order."""
    code, order = code_of(code), encode_field(request.order_id)
    bucket, user, orders = key_names.bucket(code), encode_field(request.user_id), call.caller.keys.orders
    names = (*_names(call, code, bucket), f"{orders}{key_names.bucket(order)}", f"{orders}{key_names.bucket(user)}")
    args = (call.fingerprint, code, bucket, user, order, _ms(request.lock_seconds), _token())
    return Command("lock", names, args, _render)


def prepare_extend(call: Call, code: str, request: ExtendRequest) -> Command:
    """Move a live lock's deadline."""
    code = code_of(code)
    bucket = key_names.bucket(code)
    owner = encode_field(call.caller.user)
    args = (call.fingerprint, code, bucket, request.lock_token, _ms(request.lock_seconds), owner)
    return Command("extend", _names(call, code, bucket), args, _render_extended)


def prepare_unlock(call: Call, code: str, request: UnlockRequest) -> Command:
    """Release a lock."""
    code = code_of(code)
    bucket = key_names.bucket(code)
    args = (call.fingerprint, code, bucket, request.lock_token, encode_field(call.caller.user))
    return Command("unlock", _names(call, code, bucket), args, _render_unlocked)


def _body(payload: str) -> bytes:
    """A Lock; put together, which takes a third of a struct's time."""
    book_id, code, user, order, token, until = payload.split(" ")
    return (
        f'{{"lockToken":"{token}","code":"{code}","bookId":"{book_id}","userId":{quote_json(decode_id(user))},'
        f'"orderId":{quote_json(decode_field(order))},"expiresAt":"{from_ms(int(until))}"}}'
    ).encode()


def _render(reply: Reply, durability: str) -> Rendered:
    return Rendered(200 if reply[0] == REPEATED else 201, _body(reply[1]), bool(reply[3]))


def _render_extended(reply: Reply, durability: str) -> Rendered:
    return Rendered(200, _body(reply[1]), bool(reply[3]))


def _render_unlocked(reply: Reply, durability: str) -> Rendered:
    return Rendered(204, None, bool(reply[3]))


LOCK = Operation(
    request=LockRequest,
    prepare=prepare_lock,
    answer=Lock,
    texts=Texts(
        summary="Lock a coupon",
        tag="Coupons",
        description="Hold one use for a user and an order, until it is redeemed, released or expired. "
        "Scope `checkout`.",
        example={"userId": "user-42", "orderId": "A-1001"},
        answer=parts.LOCK,
        repeated="This user holds it for this order already; renewed.",
        refusals=f"coupon_not_found {parts.WINDOW} {parts.HELD} {parts.USES} lock_quota {parts.TRAFFIC}",
    ),
)
EXTEND = Operation(
    request=ExtendRequest,
    prepare=prepare_extend,
    answer=Lock,
    status=200,
    texts=Texts(
        summary="Extend a lock",
        tag="Coupons",
        description="Move a live lock's deadline; never back, never past its ceiling. Scope `checkout`.",
        example={"lockToken": parts.LOCK["lockToken"], "lockSeconds": 300},
        answer=parts.LOCK,
        refusals=f"coupon_not_found coupon_inactive book_inactive lock_lost lock_ceiling {parts.TRAFFIC}",
    ),
)
UNLOCK = Operation(
    request=UnlockRequest,
    prepare=prepare_unlock,
    answer=None,
    status=204,
    texts=Texts(
        summary="Release a lock",
        tag="Coupons",
        description="Release a lock; done too where it was released or had expired. Scope `checkout`.",
        example={"lockToken": parts.LOCK["lockToken"]},
        refusals="coupon_not_found outcome_unknown",
    ),
)
