"""Single coupons: each in a book of its own, and both said in one flat request."""

import contextlib
from collections.abc import Generator
from typing import Annotated, Any, ClassVar, Literal, cast

import msgspec

from service.domain.book_requests import CreateBook, Time
from service.domain.code_requests import CodeLine
from service.domain.discounts import FixedDiscount, PercentageDiscount, PlainType
from service.domain.errors import BadField, Refusal, invalid
from service.domain.field_types import CODE_PATTERN, Count, Request, UserId, canonical_code, text
from service.domain.money import CURRENCIES, Money, PositiveMoney

Kind = Literal["user-specific", "time-specific", "generated"]

_NAME_LENGTH = 255
_FLAT = {
    "discount.value": "discountValue",
    "discount.maxAmount": "maxDiscountAmount",
    "discount.minOrderValue": "minOrderValue",
    "discount.currency": "currency",
}
"""What a book's fields are called here, where that is something else."""


class _Said(Request, kw_only=True):
    """What can be said of each kind."""

    kind: ClassVar[Kind]
    default_uses: ClassVar[int | None] = 1
    """How often the coupon may be used in all, where that isn't said; None is no limit."""

    code: Annotated[
        Annotated[str, msgspec.Meta(pattern=CODE_PATTERN)] | None,
        msgspec.Meta(description="A random one where left out.", examples=["WELCOME-42"]),
    ] = None
    max_total_uses: Annotated[Count | None, msgspec.Meta(description="1 where left out.")] = None
    discount_type: Annotated[PlainType | None, msgspec.Meta(description="Goes with `discountValue`.")] = None
    discount_value: Annotated[
        PositiveMoney | None, msgspec.Meta(description="Of a percentage to 100, at most 4 decimals.", examples=["20"])
    ] = None
    max_discount_amount: Money | None = None
    min_order_value: Money | None = None
    currency: Annotated[
        Annotated[str, msgspec.Meta(extra_json_schema=CURRENCIES)] | None,
        msgspec.Meta(description="The discount's, by ISO 4217; the workspace's where left out."),
    ] = None
    description: Annotated[str, text(0, 2000)] | None = None
    created_by: Annotated[str, text(1, 255)] | None = None

    def __post_init__(self) -> None:
        if self.code is not None:
            self.code = canonical_code(self.code)
            if self.code is None:
                raise BadField("code", "is a reserved word")
        pair: dict[str, Any] = {"discountType": self.discount_type, "discountValue": self.discount_value}
        missing = [field for field, said in pair.items() if said is None]
        if len(missing) == 1:
            raise BadField(missing[0], "is needed: discountType and discountValue go together")
        more = {
            "maxDiscountAmount": self.max_discount_amount,
            "minOrderValue": self.min_order_value,
            "currency": self.currency,
        }
        for field, said in more.items():
            if missing and said is not None:
                raise BadField(field, "goes with a discount only")
        with flat_names():
            book_of(cast("SingleCoupon", self), "any")


class UserSpecific(_Said, kw_only=True):
    """A coupon for one user, in a book of its own."""

    kind = "user-specific"

    user_id: UserId
    valid_from: Time | None = None
    valid_until: Time | None = None
    max_uses_per_user: Count | None = None


class TimeSpecific(_Said, kw_only=True):
    """A coupon for a time, in a book of its own."""

    kind = "time-specific"
    default_uses = None

    user_id: UserId | None = None
    valid_from: Time
    valid_until: Time
    max_uses_per_user: Count
    max_total_uses: Annotated[Count | None, msgspec.Meta(description="No limit where left out.")] = None


class Generated(_Said, kw_only=True):
    """A coupon in a book of its own."""

    kind = "generated"

    user_id: UserId | None = None
    valid_from: Time | None = None
    valid_until: Time | None = None
    max_uses_per_user: Count | None = None


SingleCoupon = UserSpecific | TimeSpecific | Generated


def line_of(said: SingleCoupon, code: str) -> CodeLine:
    """The coupon under this code; its limit is its own."""
    return CodeLine(code, owner_id=said.user_id, max_redemptions=said.max_total_uses or said.default_uses)


def book_of(said: SingleCoupon, code: str) -> CreateBook:
    """The book of the coupon of this code; BadField where it makes no sense, in the book's words."""
    return CreateBook(
        name=said.description[:_NAME_LENGTH] if said.description else f"Coupon {code}",
        description=said.description,
        valid_from=said.valid_from,
        valid_until=said.valid_until,
        max_redemptions_per_code=said.max_total_uses or said.default_uses,
        max_redemptions_per_user=said.max_uses_per_user,
        discount=_discount_of(said),
        created_by=said.created_by,
    )


def _discount_of(said: SingleCoupon) -> PercentageDiscount | FixedDiscount | None:
    if said.discount_type is None or said.discount_value is None:
        return None
    make = PercentageDiscount if said.discount_type == "percentage" else FixedDiscount
    return make(
        value=said.discount_value,
        max_amount=said.max_discount_amount,
        min_order_value=said.min_order_value,
        currency=said.currency,
    )


@contextlib.contextmanager
def flat_names() -> Generator[None]:
    """What is refused of the book within, is refused in the flat request's words."""
    try:
        yield
    except BadField as bad:
        raise BadField(_FLAT.get(bad.field, bad.field), bad.reason, bad.malformed) from None
    except Refusal as refusal:
        if refusal.code != "invalid":
            raise
        (error,) = refusal.errors
        raise invalid(_FLAT.get(error.field, error.field), error.reason) from None
