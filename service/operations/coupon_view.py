"""A coupon as clients see it, and reading one."""

from typing import Literal, TypeVar

from service.access.caller import Caller, resolve_user
from service.domain.field_types import Answer, Request, decode_field, decode_id
from service.domain.times import Timestamp as Time
from service.domain.times import from_ms
from service.formats import key_names
from service.formats.events import shown_redemption_id
from service.operations import document_parts as parts
from service.operations.base import Call, Command, Operation, Rendered, Reply, Texts, code_of, encode

Status = Literal["redeemed", "exhausted", "inactive", "expired", "locked", "assigned", "available"]
Durability = Literal["accepted", "fsynced", "recorded"]


class CouponLock(Answer):
    """The live lock that ends soonest."""

    user_id: str
    order_id: str | None
    expires_at: Time


class LastRedemption(Answer):
    """The latest redemption that stands."""

    redemption_id: str
    user_id: str
    order_id: str | None
    redeemed_at: Time


class Coupon(Answer):
    """A coupon; `status` is the first that holds of: redeemed or exhausted, inactive, expired, locked, assigned,
    available."""

    code: str
    book_id: str
    status: Status
    user_id: str | None
    redemptions: int
    max_redemptions: int | None
    lock: CouponLock | None
    assigned_at: Time | None
    expires_at: Time | None
    last_redemption: LastRedemption | None


class AssignedCoupon(Coupon):
    """A coupon, and how safe its assignment is."""

    durability: Durability


class ReadCoupon(Request):
    """Nothing is asked but the code."""


C = TypeVar("C", bound=Coupon)


def fields_of(view: str) -> dict[str, object]:
    """A script's view of a coupon as the fields of Coupon."""
    (
        book_id, code, status, uses, limit, user, assigned_at, ends_at,
        lock_user, lock_order, lock_until, last_id, last_user, last_order, last_at,
    ) = view.split(" ")  # fmt: skip
    lock = last = None
    if lock_user != "-":
        lock = CouponLock(
            user_id=decode_id(lock_user), order_id=decode_field(lock_order), expires_at=from_ms(int(lock_until))
        )
    if last_id != "-":
        last = LastRedemption(
            redemption_id=shown_redemption_id(last_id, last_at),
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
    }


def coupon_of(view: str) -> Coupon:
    """A script's view of a coupon as clients see it."""
    return Coupon(**fields_of(view))  # type: ignore[arg-type]


def seen_by(caller: Caller, coupon: C) -> C:
    """The coupon as the caller may see it: a user's token shows no other user's lock or redemption. Refusal
    `forbidden` where the coupon is another's."""
    if caller.user is not None:
        resolve_user(caller, coupon.user_id)
        if coupon.lock is not None and coupon.lock.user_id != caller.user:
            coupon.lock = None
        if coupon.last_redemption is not None and coupon.last_redemption.user_id != caller.user:
            coupon.last_redemption = None
    return coupon


def prepare(call: Call, code: str, request: ReadCoupon) -> Command:
    """Read one coupon."""
    caller, code = call.caller, code_of(code)
    bucket = key_names.bucket(code)
    k = caller.keys
    names = (caller.gate, k.settings, k.answer, f"{k.directory}{bucket}", f"{k.coupon}{code}")

    def render(reply: Reply, durability: str) -> Rendered:
        return Rendered(200, encode(seen_by(caller, coupon_of(reply[1]))))

    return Command("coupon", names, ("-", code, bucket), render)


READ = Operation(
    request=ReadCoupon,
    prepare=prepare,
    answer=Coupon,
    status=200,
    texts=Texts(
        summary="Read a coupon",
        tag="Coupons",
        keyed=False,
        description="A coupon as it is now. Scope `checkout` or `manage`.",
        answer=parts.COUPON,
        refusals="coupon_not_found",
    ),
)
