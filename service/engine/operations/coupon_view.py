"""A coupon as clients see it, and the operation that reads one: table.py, and all operations that return coupons, use
it. Fields are those of COUPON_VIEW, by position; names and statuses are in the API's JSON."""

from typing import Annotated, Literal, TypeVar

import msgspec

from service.engine.domain.field_types import Answer, Nothing, decode_field, decode_id
from service.engine.domain.money import Amount, from_e4
from service.engine.domain.times import Timestamp, from_ms
from service.engine.formats import key_names
from service.engine.formats.redemption_id import id_from_event
from service.engine.operations import document_parts as parts
from service.engine.operations.base import Call, Command, Operation, Rendered, Reply, Texts, encode, parse_code
from service.engine.operations.caller import Caller, resolve_user

Code = Annotated[str, msgspec.Meta(description="In upper or lower case.")]
Status = Literal["redeemed", "exhausted", "inactive", "expired", "locked", "assigned", "available"]
Durability = Literal["accepted", "fsynced", "recorded"]


class CouponLock(Answer):
    """The live lock that ends soonest."""

    user_id: str
    order_id: str | None
    expires_at: Timestamp


class LastRedemption(Answer):
    """The latest redemption that was not rolled back."""

    redemption_id: str
    user_id: str
    order_id: str | None
    redeemed_at: Timestamp


class Balance(Answer):
    """The sums of a card, or of a book's cards: `issued` + `credited` = `spent` + `held` + `closed` + `available`."""

    issued: Amount
    credited: Amount
    spent: Amount
    held: Amount
    closed: Amount
    available: Amount


class Coupon(Answer):
    """A coupon."""

    code: str
    book_id: str
    status: Status
    user_id: str | None
    redemptions: int
    max_redemptions: int | None
    lock: CouponLock | None
    assigned_at: Timestamp | None
    expires_at: Timestamp | None
    last_redemption: LastRedemption | None
    balance: Balance | None


class ChangedCoupon(Coupon):
    """A coupon, and the durability of its change."""

    durability: Durability


C = TypeVar("C", bound=Coupon)


def parse_view(view: str) -> dict[str, object]:
    """The fields of Coupon from a script's view (COUPON_VIEW in service/engine/formats/script_replies.py)."""
    (
        book_id, code, status, uses, limit, user, assigned_at, ends_at,
        lock_user, lock_order, lock_until, last_event, last_user, last_order, last_at, *account,
    ) = view.split(" ")  # fmt: skip
    lock = last = None
    if lock_user != "-":
        lock = CouponLock(
            user_id=decode_id(lock_user), order_id=decode_field(lock_order), expires_at=from_ms(int(lock_until))
        )
    if last_event != "-":
        last = LastRedemption(
            redemption_id=id_from_event(last_event, last_at),
            user_id=decode_id(last_user),
            order_id=decode_field(last_order),
            redeemed_at=from_ms(int(last_at)),
        )
    return {
        "code": code,
        "book_id": book_id,
        "status": status,
        "user_id": decode_field(user),
        "redemptions": int(uses),
        "max_redemptions": None if limit == "-" else int(limit),
        "lock": lock,
        "assigned_at": None if assigned_at == "-" else from_ms(int(assigned_at)),
        "expires_at": None if ends_at == "-" else from_ms(int(ends_at)),
        "last_redemption": last,
        "balance": parse_balance(account[0]) if account else None,
    }


def render_change(reply: Reply, durability: str) -> Rendered:
    """The answer to a change whose reply is {OK, view, "", replayed}."""
    body = ChangedCoupon(**parse_view(reply[1]), durability=durability)  # type: ignore[arg-type]
    return Rendered(200, encode(body), bool(reply[3]))


def parse_balance(account: str) -> Balance:
    """The six sums of a view of an account (lua/includes/cards.lua)."""
    *amounts, digits = map(int, account.split(":"))
    return Balance(*(from_e4(amount, digits) for amount in amounts))


def parse_coupon(view: str) -> Coupon:
    return Coupon(**parse_view(view))  # type: ignore[arg-type]


def restrict(caller: Caller, coupon: C) -> C:
    """Remove what the caller may not see: with a user's token, other users' lock and redemption.

    Refusal `forbidden` if the coupon belongs to another user.
    """
    if caller.user is not None:
        resolve_user(caller, coupon.user_id)
        if coupon.lock is not None and coupon.lock.user_id != caller.user:
            coupon.lock = None
        if coupon.last_redemption is not None and coupon.last_redemption.user_id != caller.user:
            coupon.last_redemption = None
    return coupon


def prepare(call: Call, code: str, request: Nothing) -> Command:
    caller, code = call.caller, parse_code(code)
    bucket = key_names.bucket_text(code)

    def render(reply: Reply, durability: str) -> Rendered:
        return Rendered(200, encode(restrict(caller, parse_coupon(reply[1]))))

    return Command("coupon", call.reading_keys(code, bucket), ("-", code, bucket), render)


READ = Operation(
    request=Nothing,
    prepare=prepare,
    answer=Coupon,
    status=200,
    texts=Texts(
        summary="Read a coupon",
        returns="The coupon.",
        description="A coupon as it is now. Scope `checkout` or `manage`.",
        answer=parts.COUPON,
    ),
)
