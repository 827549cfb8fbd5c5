"""Single coupons: one flat request creates a coupon and its own book. Without side effects.

single_coupons.py decodes with these, and single_coupon_rows.py makes the rows of both. Field names are in the API's
JSON.
"""

import contextlib
from collections.abc import Generator
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from service.engine.domain.discounts import FixedDiscount, PercentageDiscount, PlainType
from service.engine.domain.errors import BadField, Refusal, invalid
from service.engine.domain.field_types import CodeText, Count, Request, UserId, canonicalize_code, text_schema
from service.engine.domain.money import CURRENCIES, Money, PositiveMoney
from service.engine.domain.times import Time, check_times
from service.server.requests.book_requests import CreateBook
from service.server.requests.code_requests import CodeLine

Kind = Literal["user-specific", "time-specific", "generated"]

_NAME_LENGTH = 255
_FLAT = {
    "discount.value": "discountValue",
    "discount.maxAmount": "maxDiscountAmount",
    "discount.minOrderValue": "minOrderValue",
    "discount.currency": "currency",
}
"""The names in a single coupon's request of a book's fields."""


class SingleCoupon(Request, kw_only=True):
    """A coupon of any kind."""

    kind: ClassVar[Kind]
    default_uses: ClassVar[int | None] = 1
    """The default of `max_total_uses`; None means no limit."""

    user_id: UserId | None = None
    valid_from: Time | None = None
    valid_until: Time | None = None
    max_uses_per_user: Count | None = None
    code: Annotated[
        CodeText | None,
        msgspec.Meta(description="Default: a random code.", examples=["WELCOME-42"]),
    ] = None
    max_total_uses: Annotated[Count | None, msgspec.Meta(description="Default: 1.")] = None
    discount_type: Annotated[PlainType | None, msgspec.Meta(description="Required with `discountValue`.")] = None
    discount_value: Annotated[
        PositiveMoney | None, msgspec.Meta(description="An amount, or a percentage of at most 100.", examples=["20"])
    ] = None
    max_discount_amount: Money | None = None
    min_order_value: Money | None = None
    currency: Annotated[
        Annotated[str, msgspec.Meta(extra_json_schema=CURRENCIES)] | None,
        msgspec.Meta(description="Default: the workspace's."),
    ] = None
    description: Annotated[str, text_schema(0, 2000)] | None = None
    created_by: Annotated[str, text_schema(1, 255)] | None = None

    def __post_init__(self) -> None:
        check_times(self)
        if self.code is not None:
            self.code = canonicalize_code(self.code)
            if self.code is None:
                raise BadField("code", "is a reserved word")
        pair: dict[str, Any] = {"discountType": self.discount_type, "discountValue": self.discount_value}
        missing = [field for field, value in pair.items() if value is None]
        if len(missing) == 1:
            raise BadField(missing[0], "is required: send both discountType and discountValue, or none of them")
        dependent = {
            "maxDiscountAmount": self.max_discount_amount,
            "minOrderValue": self.min_order_value,
            "currency": self.currency,
        }
        for field, value in dependent.items():
            if missing and value is not None:
                raise BadField(field, "needs discountType and discountValue")
        with rename_book_fields():
            make_book(self, "any")  # only checks the book's fields


class UserSpecific(SingleCoupon, kw_only=True):
    """A coupon for one user."""

    kind = "user-specific"

    user_id: UserId  # type: ignore[assignment]


class TimeSpecific(SingleCoupon, kw_only=True):
    """A coupon for a period of time."""

    kind = "time-specific"
    default_uses = None

    valid_from: Time  # type: ignore[assignment]
    valid_until: Time  # type: ignore[assignment]
    max_uses_per_user: Count  # type: ignore[assignment]
    max_total_uses: Annotated[Count | None, msgspec.Meta(description="Default: no limit.")] = None


class Generated(SingleCoupon, kw_only=True):
    """A coupon for one user, or for any user."""

    kind = "generated"


def make_code_line(request: SingleCoupon, code: str) -> CodeLine:
    """The coupon's line, with a limit of its own."""
    return CodeLine(code, owner_id=request.user_id, max_redemptions=request.max_total_uses or request.default_uses)


def make_book(request: SingleCoupon, code: str) -> CreateBook:
    """The coupon's book. Raises BadField with the book's field names."""
    return CreateBook(
        name=request.description[:_NAME_LENGTH] if request.description else f"Coupon {code}",
        description=request.description,
        valid_from=request.valid_from,
        valid_until=request.valid_until,
        max_redemptions_per_code=request.max_total_uses or request.default_uses,
        max_redemptions_per_user=request.max_uses_per_user,
        discount=_make_discount(request),
        created_by=request.created_by,
    )


def _make_discount(request: SingleCoupon) -> PercentageDiscount | FixedDiscount | None:
    if request.discount_type is None or request.discount_value is None:
        return None
    make = PercentageDiscount if request.discount_type == "percentage" else FixedDiscount
    return make(
        value=request.discount_value,
        max_amount=request.max_discount_amount,
        min_order_value=request.min_order_value,
        currency=request.currency,
    )


@contextlib.contextmanager
def rename_book_fields() -> Generator[None]:
    """Rename the book's fields in errors to those of the flat request."""
    try:
        yield
    except BadField as bad:
        raise BadField(_FLAT.get(bad.field, bad.field), bad.reason, bad.malformed) from None
    except Refusal as refusal:
        if refusal.code != "invalid":
            raise
        (error,) = refusal.errors
        raise invalid(_FLAT.get(error.field, error.field), error.reason) from None
