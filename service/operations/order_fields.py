"""What a request says of an order: its value, currency and items, as scripts take them."""

from collections.abc import Iterable
from typing import Annotated, Protocol

import msgspec

from service.domain.decoding import refusal_from_field
from service.domain.errors import BadField
from service.domain.field_types import Request, check_text, text_schema
from service.domain.money import CURRENCIES, CURRENCY_DIGITS, Money, check_currency, count_digits, to_e4

MAX_ITEMS = 1_000

Currency = Annotated[
    str,
    msgspec.Meta(
        description="ISO 4217; the discount's or the workspace's.", examples=["USD"], extra_json_schema=CURRENCIES
    ),
]


class Item(Request):
    """One line of an order."""

    sku: Annotated[str, text_schema(1, 255)]
    quantity: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    unit_price: Money


Items = Annotated[list[Item], msgspec.Meta(max_length=MAX_ITEMS)]


class Order(Protocol):
    """A request about an order."""

    @property
    def order_value(self) -> Money | None: ...
    @property
    def currency(self) -> str | None: ...
    @property
    def items(self) -> list[Item] | None: ...


def order_amounts(order: Order) -> tuple[str | int, int, str]:
    """The order's amounts, as scripts' arguments; Refusal where a currency or an amount is senseless.

    1. Its value in 10⁻⁴ units; '-' for none.
    2. The digits that the amounts need after the point, for a script to compare where the request names no currency.
    3. Its items, as lua/includes/money.lua reads them; '-' for none.
    """
    try:
        currency, value = order.currency, order.order_value
        check_currency("currency", currency)
        allowed = CURRENCY_DIGITS[currency] if currency else 4
        value_e4, digits = "-", 0
        if value is not None:
            value_e4 = to_e4("orderValue", value, allowed)
            digits = count_digits(value_e4)
        if not order.items:
            return value_e4, digits, "-"
        skus: dict[str, dict[int, int]] = {}
        for place, item in enumerate(order.items):
            check_text(f"items[{place}].sku", item.sku, 1, 255)
            price_e4 = to_e4(f"items[{place}].unitPrice", item.unit_price, allowed)
            digits = max(digits, count_digits(price_e4))
            units = skus.setdefault(item.sku, {})
            units[price_e4] = units.get(price_e4, 0) + item.quantity
        return value_e4, digits, _packed_items(skus.values())
    except BadField as bad:
        raise refusal_from_field(bad) from None


def _packed_items(skus: Iterable[dict[int, int]]) -> str:
    """A line for each price of a sku, the cheapest first: the sku's units, which only its first line says, how many
    have the price, and the price. Names decide nothing."""
    lines: list[str] = []
    for counts in skus:
        units = sum(counts.values())
        for price_e4 in sorted(counts):
            lines.append(f"{units}:{counts[price_e4]}:{price_e4}")
            units = 0
    return ",".join(lines)
