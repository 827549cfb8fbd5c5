"""Check an order's value, currency and items, and encode them as script arguments: for lock.py, redeem.py and
checkout.py. lua/includes/pricing.lua and discounts.lua read the arguments. Where a request names no currency, the
scripts know it, and check digits and the worth of items."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Protocol

import msgspec

from service.engine.domain.errors import QUOTED, BadField, refusal_from_field
from service.engine.domain.field_types import Request, check_text, text_schema
from service.engine.domain.money import (
    CURRENCIES,
    CURRENCY_DIGITS,
    Money,
    PositiveMoney,
    check_currency,
    count_digits,
    from_e4,
    to_e4,
)
from service.engine.operations.caller import Caller
from service.engine.operations.usual_requests import UsualAmount

MAX_ITEMS = 1_000

Currency = Annotated[
    str,
    msgspec.Meta(
        description="Default: the workspace's. Of a book with a discount only its currency is accepted.",
        examples=["USD"],
        extra_json_schema=CURRENCIES,
    ),
]


class Item(Request):
    """One line of an order."""

    sku: Annotated[str, text_schema(1, 255)]
    quantity: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    unit_price: Money


ExpectedAmount = Annotated[
    Money,
    msgspec.Meta(
        description="What the customer was charged: where the final amount would be another, the request is refused, "
        "`price_changed`."
    ),
]
Items = Annotated[list[Item], msgspec.Meta(max_length=MAX_ITEMS)]
CardAmount = Annotated[PositiveMoney, msgspec.Meta(description="`invalid` where the coupon's book has no balance.")]


class OrderFields(Request, kw_only=True):
    """The amounts of a request's order."""

    order_value: Money | None = None
    currency: Currency | None = None
    items: Items | None = None
    amount: CardAmount | None = None


class UsualOrder(Protocol):
    """The fields of a usual request (service/engine/operations/usual_requests.py)."""

    order_value: UsualAmount | None
    currency: str | None
    items: None
    amount: None


def order_amounts(order: OrderFields | UsualOrder) -> tuple[str, str, str]:
    """The order's amounts as script arguments. Refusal if a currency or an amount is invalid.

    1. Its value in 10⁻⁴ units; '-' for none.
    2. The decimal places that the amounts need; scripts check them if the request names no currency.
    3. Its items, as lua/includes/discounts.lua reads them; '-' for none.
    """
    currency, value = order.currency, order.order_value
    if isinstance(value, tuple):  # a UsualAmount, which is checked already
        return *value, "-"
    try:
        _check_currency(currency)
        allowed = CURRENCY_DIGITS[currency] if currency else 4
        value_text, value_e4, digits = "-", 0, 0
        if value is not None:
            value_e4 = _parse_amount("orderValue", value, allowed)
            value_text, digits = str(value_e4), count_digits(value_e4)
        if not order.items:
            return value_text, str(digits), "-"
        skus: dict[str, dict[int, int]] = {}
        count = worth_e4 = 0
        for index, item in enumerate(order.items):
            check_text(f"items[{index}].sku", item.sku, 1, 255)
            price_e4 = _parse_amount(f"items[{index}].unitPrice", item.unit_price, allowed)
            digits = max(digits, count_digits(price_e4))
            units = skus.setdefault(item.sku, {})
            units[price_e4] = units.get(price_e4, 0) + item.quantity
            count, worth_e4 = count + item.quantity, worth_e4 + item.quantity * price_e4
        if value is not None and currency:
            _check_worth(worth_e4, count, value_e4, allowed)
        return value_text, str(digits), _encode_items(skus.values())
    except BadField as bad:
        raise refusal_from_field(bad) from None


def encode_asks(caller: Caller, expected: Decimal | None, order: OrderFields | UsualOrder) -> str:
    """What a redemption asks beside its order's amounts, as a script argument; '-' for nothing, as nearly always.
    Refusal for a bad amount."""
    if expected is None and caller.user is None and order.amount is None:
        return "-"
    currency = order.currency
    try:
        expected_e4 = (
            None
            if expected is None
            else _parse_amount("expectedFinalAmount", expected, CURRENCY_DIGITS[currency] if currency else 4)
        )
    except BadField as bad:
        raise refusal_from_field(bad) from None
    return f"{'-' if expected_e4 is None else expected_e4}/{encode_claim(caller, order)}"


def encode_claim(caller: Caller, order: OrderFields | UsualOrder) -> str:
    """Whose claim a request's amounts are, as lua/includes/pricing.lua names it: a key's, or a user's token's; then the
    `amount` that it names, if any, in 10⁻⁴ units. Refusal for a bad amount."""
    claim = "k" if caller.user is None else "u"
    if order.amount is None:
        return claim
    try:
        amount_e4 = _parse_amount("amount", order.amount, CURRENCY_DIGITS[order.currency] if order.currency else 4)
        if amount_e4 == 0:
            raise BadField("amount", "must be above 0")
    except BadField as bad:
        raise refusal_from_field(bad) from None
    return f"{claim}{amount_e4}"


def _check_currency(currency: str | None) -> None:
    try:
        check_currency("currency", currency)
    except BadField as bad:
        raise BadField("currency", f"{bad.reason}, but is {str(currency)[:QUOTED]}") from None


def _check_worth(worth_e4: int, count: int, value_e4: int, digits: int) -> None:
    """Raise BadField if the items are worth more than the order. A unit's price may be rounded up to the digits."""
    if worth_e4 > value_e4 + count * 10 ** (4 - digits):
        worth, value = (from_e4(amount_e4, max(digits, 2)) for amount_e4 in (worth_e4, value_e4))
        reason = f"are worth {worth} together, more than the orderValue of {value}: send both before any discount"
        raise BadField("items", reason)


def _parse_amount(field: str, amount: Decimal, digits: int) -> int:
    """As to_e4; a refusal also has what was sent."""
    try:
        return to_e4(field, amount, digits)
    except BadField as bad:
        raise BadField(field, f"{bad.reason}, but is {str(amount)[:QUOTED]}", bad.malformed) from None


def _encode_items(skus: Iterable[dict[int, int]]) -> str:
    """`<units of the sku>:<units at this price>:<price>` for each price of a sku, cheapest first.

    Only a sku's first line has its units, the others 0.
    """
    lines: list[str] = []
    for counts in skus:
        units = sum(counts.values())
        for price_e4 in sorted(counts):
            lines.append(f"{units}:{counts[price_e4]}:{price_e4}")
            units = 0
    return ",".join(lines)
