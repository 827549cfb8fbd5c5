"""The contract's money in plain decimals: what a discount takes off, and the digits that a currency has."""

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from service.engine.domain.configuration import DiscountRow, TierRow

DIGITS = {"USD": 2, "EUR": 2, "JPY": 0, "KWD": 3}
"""Of the currencies that the machine knows."""


def rounded(amount: Decimal, digits: int) -> Decimal:
    """Half-even, at the currency's digits."""
    return amount.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN)


def format_amount(amount: Decimal, digits: int) -> str:
    """As answers have it: a string with the currency's digits."""
    return f"{amount:.{digits}f}"


def fits(amount: Decimal, digits: int) -> bool:
    """Whether it has no more digits than the currency, trailing zeros aside."""
    return amount == rounded(amount, digits)


def fits_all(asked: dict[str, Any], currency: str) -> bool:
    """Whether no amount of the request has more digits than the currency."""
    named = [asked.get("orderValue"), *(item["unitPrice"] for item in asked.get("items", ()))]
    return all(fits(Decimal(value), DIGITS[currency]) for value in named if value is not None)


def worth_too_much(value: Decimal | None, items: Sequence[dict[str, Any]], currency: str) -> bool:
    """Whether the items are worth more than the order; each unit's price may be rounded up to the currency's digits."""
    if value is None or not items:
        return False
    prices = [(item["quantity"], Decimal(item["unitPrice"])) for item in items]
    rounding = sum(quantity for quantity, _ in prices) * Decimal(1).scaleb(-DIGITS[currency])
    return sum(quantity * price for quantity, price in prices) > value + rounding


def units(amount_e4: int) -> Decimal:
    """An amount that the service's rows keep in 10⁻⁴ units; a percentage, too."""
    return Decimal(amount_e4) / 10_000


def least_value(row: DiscountRow) -> Decimal:
    """The order value below which the discount is `order_value_too_low`: its minimum, or its first tier."""
    first = [tier.from_e4 for tier in row.tiers[:1]]
    return units(max([row.min_order_value_e4 or 0, *first]))


def discount(row: DiscountRow | None, value: Decimal | None, items: Sequence[dict[str, Any]], digits: int) -> Decimal:
    """What an order of this value gets; never more than the value, nor than maxAmount."""
    if row is None or value is None:
        return Decimal(0)
    kind: DiscountRow | TierRow = row
    for tier in row.tiers:
        if units(tier.from_e4) <= value:
            kind = tier
    match kind.type:
        case "percentage":
            amount = value * units(kind.value_e4) / 100
        case "fixed":
            amount = units(kind.value_e4)
        case _:
            amount = _free(row.buy, row.get, items)
    if row.max_amount_e4 is not None:
        amount = min(amount, units(row.max_amount_e4))
    return min(rounded(amount, digits), value)


def _free(buy: int, get: int, items: Sequence[dict[str, Any]]) -> Decimal:
    """buyXGetY: within each sku, for every buy + get units get are free, the cheapest of all of them."""
    amount = Decimal(0)
    for sku in {item["sku"] for item in items}:
        mine = sorted((Decimal(item["unitPrice"]), item["quantity"]) for item in items if item["sku"] == sku)
        free = sum(quantity for _, quantity in mine) // (buy + get) * get
        for price, quantity in mine:
            amount += min(free, quantity) * price
            free -= min(free, quantity)
    return amount
