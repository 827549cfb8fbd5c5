"""Discounts in requests, in rows and in responses: book_requests.py checks and renders with it, book_rows.py stores.

Postgres keeps a discount as JSON with the request's names: `encode_discount` and `decode_discount` must fit the stored
ones.
"""

from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from service.engine.domain.configuration import DiscountRow, TierRow
from service.engine.domain.errors import BadField, invalid
from service.engine.domain.field_types import Answer, Count, Request
from service.engine.domain.money import (
    CURRENCIES,
    CURRENCY_DIGITS,
    Amount,
    Money,
    Percentage,
    PositiveMoney,
    check_currency,
    from_e4,
    to_e4,
)

MAX_TIERS = 20
PlainType = Literal["percentage", "fixed"]


class _Discount(Request, kw_only=True):
    max_amount: PositiveMoney | None = None
    min_order_value: Money | None = None
    currency: Annotated[
        Annotated[str, msgspec.Meta(extra_json_schema=CURRENCIES)] | None,
        msgspec.Meta(
            description="Default: the book's so far, else the workspace's. Fixed once a code was locked or redeemed."
        ),
    ] = None


class PercentageDiscount(_Discount, kw_only=True, tag_field="type", tag="percentage"):
    """A percentage of the order's value."""

    value: Percentage


class FixedDiscount(_Discount, kw_only=True, tag_field="type", tag="fixed"):
    """A fixed amount, at most the order's value."""

    value: PositiveMoney


class Tier(Request, kw_only=True):
    """A tier: the discount from the order value `from` up to the next tier."""

    from_: Money = msgspec.field(name="from")
    type: PlainType
    value: Annotated[PositiveMoney, msgspec.Meta(examples=["10"])]


class TieredDiscount(_Discount, kw_only=True, tag_field="type", tag="tiered"):
    """The tier with the largest `from` that the order's value reaches; below the first tier, `order_value_too_low`."""

    tiers: Annotated[
        list[Tier],
        msgspec.Meta(
            min_length=1,
            max_length=MAX_TIERS,
            description="In ascending order of `from`.",
            examples=[
                [{"from": 100, "type": "percentage", "value": 10}, {"from": 200, "type": "fixed", "value": "30.00"}]
            ],
        ),
    ]


class BuyXGetYDiscount(_Discount, kw_only=True, tag_field="type", tag="buyXGetY"):
    """For every `buy` + `get` units of one `sku` in the order's items, the cheapest `get` units are free."""

    buy: Annotated[Count, msgspec.Meta(examples=[2])]
    get: Annotated[Count, msgspec.Meta(examples=[1])]


class BalanceDiscount(_Discount, kw_only=True, tag_field="type", tag="balance"):
    """Each code is a card, from which redemptions take what the order still has to pay, as long as it has a balance.

    `maxRedemptionsPerCode` is null. A book that has codes can't become or cease to be one of cards.
    """

    value: PositiveMoney


Discount = PercentageDiscount | FixedDiscount | TieredDiscount | BuyXGetYDiscount | BalanceDiscount


class BookTier(Answer, kw_only=True):
    """A tier: the discount from the order value `from` up to the next tier."""

    from_: Amount = msgspec.field(name="from")
    type: PlainType
    value: Amount


class BookDiscount(Answer, kw_only=True):
    """A book's discount, with the fields of its type only. Amounts have the currency's digits."""

    type: Literal["percentage", "fixed", "tiered", "buyXGetY", "balance"]
    value: Annotated[Amount | UnsetType, msgspec.Meta(description="For `percentage`, `fixed` and `balance`.")] = UNSET
    tiers: Annotated[list[BookTier] | UnsetType, msgspec.Meta(description="For `tiered`.")] = UNSET
    buy: Annotated[int | UnsetType, msgspec.Meta(description="For `buyXGetY`.")] = UNSET
    get: Annotated[int | UnsetType, msgspec.Meta(description="For `buyXGetY`.")] = UNSET
    max_amount: Amount | None
    min_order_value: Amount | None
    currency: str


def encode_discount(row: DiscountRow) -> dict[str, Any]:
    """The discount as Postgres stores it: amounts as decimal strings."""
    return msgspec.to_builtins(render_discount(msgspec.structs.replace(row, digits=4)))


def decode_discount(stored: dict[str, Any]) -> DiscountRow:
    return make_discount_row(msgspec.convert(stored, Discount), stored["currency"])


def check_discount_digits(discount: DiscountRow) -> None:
    """Raise Refusal `invalid` if an amount has more digits after the point than the currency."""
    currency, digits = discount.currency, discount.digits
    amounts = {"discount.maxAmount": discount.max_amount_e4, "discount.minOrderValue": discount.min_order_value_e4}
    if discount.type in ("fixed", "balance"):
        amounts["discount.value"] = discount.value_e4
    for number, tier in enumerate(discount.tiers):
        amounts[f"discount.tiers[{number}].from"] = tier.from_e4
        if tier.type == "fixed":
            amounts[f"discount.tiers[{number}].value"] = tier.value_e4
    for field, amount in amounts.items():
        if amount is not None and amount % 10 ** (4 - digits):
            most = f"at most {digits} digits after the point, as {currency} has"
            raise invalid(field, f"must have {most}, but is {from_e4(amount, 4).rstrip('0')}")


def make_discount_row(discount: Discount, default_currency: str) -> DiscountRow:
    """The discount with integer amounts. Raises BadField for a value out of range."""
    check_currency("discount.currency", discount.currency)
    currency, most, least = discount.currency or default_currency, discount.max_amount, discount.min_order_value
    terms: dict[str, Any]
    match discount:
        case PercentageDiscount():
            terms = {"type": "percentage", "value_e4": _value_e4("discount.value", "percentage", discount.value)}
        case FixedDiscount():
            terms = {"type": "fixed", "value_e4": _value_e4("discount.value", "fixed", discount.value)}
        case TieredDiscount():
            terms = {"type": "tiered", "tiers": _tier_rows(discount.tiers)}
        case BuyXGetYDiscount():
            terms = {"type": "buyXGetY", "buy": discount.buy, "get": discount.get}
        case BalanceDiscount():
            terms = {"type": "balance", "value_e4": _positive_e4("discount.value", discount.value)}
            if most is not None:
                raise BadField("discount.maxAmount", "must be null: a card takes what is left to pay")
    return DiscountRow(
        **terms,
        max_amount_e4=None if most is None else _positive_e4("discount.maxAmount", most),
        min_order_value_e4=None if least is None else to_e4("discount.minOrderValue", least),
        currency=currency,
        digits=CURRENCY_DIGITS[currency],
    )


def _tier_rows(tiers: list[Tier]) -> tuple[TierRow, ...]:
    rows: list[TierRow] = []
    for number, tier in enumerate(tiers):
        field = f"discount.tiers[{number}]"
        from_e4 = to_e4(f"{field}.from", tier.from_)
        if rows and from_e4 <= rows[-1].from_e4:
            raise BadField(f"{field}.from", "must be more than that of the tier before")
        value_e4 = _value_e4(f"{field}.value", tier.type, tier.value)
        rows.append(TierRow(from_e4=from_e4, type=tier.type, value_e4=value_e4))
    return tuple(rows)


def _value_e4(field: str, type_: PlainType, value: Decimal) -> int:
    value_e4 = _positive_e4(field, value)
    if type_ == "percentage" and value_e4 > 1_000_000:
        raise BadField(field, "must be at most 100")
    return value_e4


def _positive_e4(field: str, amount: Decimal) -> int:
    amount_e4 = to_e4(field, amount)
    if amount_e4 == 0:
        raise BadField(field, "must be more than 0")
    return amount_e4


def render_discount(row: DiscountRow) -> BookDiscount:
    """The discount of a response."""
    digits = row.digits
    body = BookDiscount(
        type=row.type,
        max_amount=None if row.max_amount_e4 is None else from_e4(row.max_amount_e4, digits),
        min_order_value=None if row.min_order_value_e4 is None else from_e4(row.min_order_value_e4, digits),
        currency=row.currency,
    )
    match row.type:
        case "tiered":
            body.tiers = [
                BookTier(from_=from_e4(tier.from_e4, digits), type=tier.type, value=_format_value(tier, digits))
                for tier in row.tiers
            ]
        case "buyXGetY":
            body.buy, body.get = row.buy, row.get
        case _:
            body.value = _format_value(row, digits)
    return body


def _format_value(row: DiscountRow | TierRow, digits: int) -> str:
    """An amount with the currency's digits, or a percentage without trailing zeros."""
    if row.type == "percentage":
        return from_e4(row.value_e4, 4).rstrip("0").rstrip(".")
    return from_e4(row.value_e4, digits)
