"""Hold one use of a coupon for a user and an order: lock, extend, unlock. table.py has a row for each.

KEYS and ARGV are in the order of lua/lock.lua, extend.lua and unlock.lua. Field names are in the API's JSON.
"""

import secrets
from functools import lru_cache
from typing import Annotated

import msgspec

from service.engine.domain.field_types import (
    Answer,
    Count,
    OrderId,
    Request,
    UserId,
    encode_field,
    quote_field,
    quote_id,
)
from service.engine.domain.money import Amount, from_e4
from service.engine.domain.outcomes import REPEATED
from service.engine.domain.times import Timestamp, from_ms
from service.engine.formats import key_names
from service.engine.formats.script_replies import LOCK_VIEW
from service.engine.operations import document_parts as parts
from service.engine.operations.base import Call, Command, Operation, Rendered, Reply, Texts, parse_code
from service.engine.operations.order_fields import OrderFields, encode_claim, order_amounts

TOKENS_DRAWN = 64
_drawn: list[str] = []

LockToken = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[!-~]{1,64}$(?![\s\S])",
        description="As the answer to the lock has it.",
        examples=[parts.UNDER_LOCK["lockToken"]],
    ),
]
LockSeconds = Annotated[
    Count,
    msgspec.Meta(
        description="From now. It ends sooner where the book's `maxLockSeconds` or the coupon's "
        "window does: the response has the `lockSeconds` that apply."
    ),
]


class LockRequest(OrderFields, kw_only=True):
    """The user, the order and the lock's life; with the order's value it holds the price, too."""

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
    """A live lock; its token redeems, extends or releases it. Without `orderValue` it holds a use and no price: the
    amounts are null."""

    lock_token: str
    code: str
    book_id: str
    user_id: str
    order_id: str | None
    lock_seconds: int
    expires_at: Timestamp
    order_value: Amount | None
    currency: str | None
    discount_amount: Amount | None
    final_amount: Amount | None
    amount: Amount | None


_WORDS = len(LOCK_VIEW)
_NO_PRICE = '"orderValue":null,"currency":null,"discountAmount":null,"finalAmount":null,"amount":null'


def _draw_token() -> str:
    """16 characters of 6 random bits. Drawn for many locks at once: a system call takes 0.5 µs."""
    try:
        return _drawn.pop()
    except IndexError:
        text = secrets.token_urlsafe(12 * TOKENS_DRAWN)
        _drawn.extend(text[at : at + 16] for at in range(16, len(text), 16))
        return text[:16]


def _ms(seconds: int | None) -> str:
    return "-" if seconds is None else str(seconds * 1000)


def prepare_lock(call: Call, code: str, request: LockRequest) -> Command:
    """Lock a coupon, or renew the lock of the same user and order."""
    code, order, user = parse_code(code), encode_field(request.order_id), encode_field(request.user_id)
    bucket_text, orders = key_names.bucket_text, call.caller.keys.orders
    bucket, order_bucket = bucket_text(code), bucket_text(order)
    names = (*call.coupon_keys(code, bucket), orders + order_bucket, orders + bucket_text(user))
    price = "-"
    if request.order_value is not None or request.currency is not None or request.amount is not None:
        value_e4, digits, items = order_amounts(request)
        price = f"{value_e4}/{request.currency or '-'}/{digits}/{encode_claim(call.caller, request)}/{items}"
    life = _ms(request.lock_seconds)
    args = (call.fingerprint, code, bucket, user, order, order_bucket, life, _draw_token(), price)
    return Command("lock", names, args, _render)


def prepare_extend(call: Call, code: str, request: ExtendRequest) -> Command:
    code = parse_code(code)
    bucket = key_names.bucket_text(code)
    owner = encode_field(call.caller.user)
    args = (call.fingerprint, code, bucket, request.lock_token, _ms(request.lock_seconds), owner)
    return Command("extend", call.coupon_keys(code, bucket), args, _render_extended)


def prepare_unlock(call: Call, code: str, request: UnlockRequest) -> Command:
    code = parse_code(code)
    bucket = key_names.bucket_text(code)
    owner = encode_field(call.caller.user)
    args = (call.fingerprint, code, bucket, request.lock_token, owner)
    return Command("unlock", call.coupon_keys(code, bucket), args, _render_unlocked)


def _body(payload: str) -> bytes:
    """A Lock as JSON, from LOCK_VIEW. Formatting takes a third of a struct's time."""
    words = payload.split(" ")
    price = _NO_PRICE if len(words) == _WORDS else _price(words.pop())
    book_id, code, user, order, token, until, left_ms = words
    if '"' in payload or user == "%-" or order in ("-", "%-"):
        ids = f'{quote_id(user)},"orderId":{quote_field(order)}'
    else:  # nearly always: saves two calls
        ids = f'"{user}","orderId":"{order}"'
    return (
        f'{{"lockToken":"{token}","code":"{code}","bookId":"{book_id}","userId":{ids},'
        f'"lockSeconds":{left_ms[:-3] or 0},"expiresAt":"{from_ms(int(until))}",{price}}}'
    ).encode()


def parse_lock(payload: str) -> Lock:
    """A Lock from LOCK_VIEW."""
    return msgspec.json.decode(_body(payload), type=Lock)


@lru_cache(maxsize=4096)
def _price(hold: str) -> str:
    """The amounts of a hold, `<value>:<currency>:<digits>:<discount>` and of a card `:m`, as members."""
    value_e4, currency, digits_text, discount_e4, *of_card = hold.split(":")
    value, digits = int(value_e4), int(digits_text)
    discount = f'"{from_e4(int(discount_e4), digits)}"'
    return (
        f'"orderValue":"{from_e4(value, digits)}","currency":"{currency}","discountAmount":{discount},'
        f'"finalAmount":"{from_e4(value - int(discount_e4), digits)}","amount":{discount if of_card else "null"}'
    )


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
        returns="The lock with its token.",
        description="Hold (reserve) one use for a user and an order, until it is redeemed, released or expired. "
        "Scope `checkout`.\n\nWith `orderValue` it holds the price, too: a redeem of the same user and order gets "
        "these amounts, whatever the book's discount, minimum, window or status has become. A repeat with others "
        "holds these instead, under the same token; one without amounts keeps what is held.",
        example=parts.ORDER,
        answer=parts.LOCK,
        repeated="This user already has a lock for this order; it is renewed.",
    ),
)
EXTEND = Operation(
    request=ExtendRequest,
    prepare=prepare_extend,
    answer=Lock,
    status=200,
    texts=Texts(
        summary="Extend a lock",
        returns="The lock with its new end.",
        description="Extend a live lock, within `maxLockSeconds`; its end never moves back. Scope `checkout`.",
        example=parts.UNDER_LOCK | {"lockSeconds": 300},
        answer=parts.LOCK,
    ),
)
UNLOCK = Operation(
    request=UnlockRequest,
    prepare=prepare_unlock,
    answer=None,
    status=204,
    texts=Texts(
        summary="Release a lock",
        returns="The lock no longer holds the coupon.",
        description="Release a lock. Also succeeds if it was released before, or has expired. Scope `checkout`.",
        example=parts.UNDER_LOCK,
    ),
)
