"""Discounts by tiers and by free units: what redeem takes off, validate says, and both refuse."""

from decimal import Decimal
from typing import Any

import pytest

from loadtests.harness.shop import Shop
from service.domain.configuration import DiscountRow, TierRow

TIERED = {
    "type": "tiered",
    "tiers": (
        TierRow(from_e4=100_000, type="percentage", value_e4=10_000),
        TierRow(from_e4=200_000, type="fixed", value_e4=50_000),
        TierRow(from_e4=500_000, type="percentage", value_e4=500_000),
    ),
    "max_amount_e4": 400_000,
}
Lines = list[tuple[str, int, str]]
"""Sku, quantity, unit price."""


def items_of(lines: Lines | None) -> list[dict[str, Any]] | None:
    """The items of a request."""
    if lines is None:
        return None
    return [{"sku": sku, "quantity": count, "unitPrice": price} for sku, count, price in lines]


async def comes_to(shop: Shop, amounts: tuple[str, str], **asked: Any) -> None:
    """Validate, and then redeem, take this off CODE-1 and leave that."""
    _, validation = await shop.validate("CODE-1", **asked)
    _, redemption = await shop.redeem("CODE-1", "ann", **asked)
    for said in (validation, redemption):
        assert (said["discountAmount"], said["finalAmount"]) == amounts


@pytest.mark.parametrize(
    ("value", "amounts"),
    [
        ("10", ("0.10", "9.90")),
        ("12.50", ("0.12", "12.38")),
        ("19.99", ("0.20", "19.79")),
        ("20", ("5.00", "15.00")),
        ("49.99", ("5.00", "44.99")),
        ("50", ("25.00", "25.00")),
        ("99999999999.99", ("40.00", "99999999959.99")),
    ],
)
async def test_the_tier_that_a_value_reaches(still: Shop, value: str, amounts: tuple[str, str]) -> None:
    """The last tier whose `from` is not above the order's value, with the discount's maximum over all of them."""
    await still.book("CODE-1", discount=TIERED)
    await comes_to(still, amounts, orderValue=value)


@pytest.mark.parametrize(
    ("terms", "lines", "value", "amounts"),
    [
        ({"buy": 2, "get": 1}, None, "20", ("0.00", "20.00")),
        ({"buy": 2, "get": 1}, [], "20", ("0.00", "20.00")),
        ({"buy": 2, "get": 1}, [("tea", 2, "5"), ("cup", 1, "5")], "15", ("0.00", "15.00")),
        ({"buy": 2, "get": 1}, [("tea", 1, "5"), ("cup", 1, "1"), ("tea", 2, "3.99")], "13.98", ("3.99", "9.99")),
        ({"buy": 2, "get": 1}, [("tea", 3, "9"), ("tea", 3, "5"), ("cup", 3, "1")], "45", ("11.00", "34.00")),
        ({"buy": 1, "get": 1, "max_amount_e4": 70_000}, [("tea", 2, "9")], "18", ("7.00", "11.00")),
        ({"buy": 1, "get": 1, "min_order_value_e4": 180_000}, [("tea", 2, "9")], "18", ("9.00", "9.00")),
        ({"buy": 1, "get": 1}, [("tea", 2, "9")], "5", ("5.00", "0.00")),
        (
            {"buy": 1, "get": 1},
            [(f"sku {n}", 1_000_000, "99999999999.99") for n in range(1000)],
            "99999999999.99",
            ("99999999999.99", "0.00"),
        ),
    ],
)
async def test_what_free_units_come_to(
    still: Shop, terms: dict[str, Any], lines: Lines | None, value: str, amounts: tuple[str, str]
) -> None:
    """Within each sku, for every buy + get units get are free, the cheapest; nothing where the order names no items,
    and never more than its value."""
    await still.book("CODE-1", discount={"type": "buyXGetY", **terms})
    await comes_to(still, amounts, orderValue=value, items=items_of(lines))


@pytest.mark.parametrize(
    ("discount", "least"),
    [
        (TIERED, "10.00"),
        (TIERED | {"min_order_value_e4": 50_000}, "10.00"),
        (TIERED | {"min_order_value_e4": 205_000}, "20.50"),
        ({"type": "buyXGetY", "buy": 1, "get": 1, "min_order_value_e4": 205_000}, "20.50"),
    ],
)
async def test_a_value_below_the_first_tier_or_the_least(still: Shop, discount: dict[str, Any], least: str) -> None:
    """Below the first tier, as below minOrderValue, the order's value is too low; without one it is asked for."""
    await still.book("CODE-1", discount=discount)
    just_below = str(Decimal(least) - Decimal("0.01"))
    for value, reason in (
        (None, "order_value_required"), ("0", "order_value_too_low"), (just_below, "order_value_too_low"),
    ):  # fmt: skip
        asked = {"orderValue": value} if value else {}
        await still.refuses(reason, still.redeem("CODE-1", "ann", **asked))
        assert (await still.validate("CODE-1", **asked))[1]["reasons"] == [reason]
    await still.refuses("currency_mismatch", still.redeem("CODE-1", "ann", orderValue="1", currency="EUR"))
    assert (await still.validate("CODE-1", orderValue=least))[1]["reasons"] == []
    assert (await still.redeem("CODE-1", "ann", orderValue=least))[0] == 201


@pytest.mark.parametrize(("currency", "digits"), [("JPY", 0), ("KWD", 3)])
async def test_unit_prices_have_the_currencys_digits(still: Shop, currency: str, digits: int) -> None:
    """A unit's price with more digits than the currency has is invalid, whether or not the request names it."""
    own = {"currency": currency, "digits": digits}
    await still.book("CODE-1", discount={"type": "buyXGetY", "buy": 1, "get": 1, **own})
    fine, too_fine = Decimal(7).scaleb(-digits), Decimal(7).scaleb(-digits - 1)
    for named in ({}, {"currency": currency}):
        asked = {"orderValue": "9", "items": items_of([("tea", 2, str(too_fine))]), **named}
        await still.refuses("invalid", still.redeem("CODE-1", "ann", **asked))
        await still.refuses("invalid", still.validate("CODE-1", **asked))
    amounts = (f"{fine:.{digits}f}", f"{9 - fine:.{digits}f}")
    await comes_to(still, amounts, orderValue="9", items=items_of([("tea", 2, str(fine))]))


async def test_a_changed_discount_governs_codes_that_are_there(still: Shop) -> None:
    """From tiers to free units, to none and back: each redeem and validate is by the discount that then is. An order
    may always name its items; only buyXGetY counts them."""
    items = items_of([("tea", 3, "8")])
    book = await still.book("CODE-1", max_redemptions_per_code=None, discount=TIERED)
    await comes_to(still, ("5.00", "19.00"), orderValue="24", items=items)
    for discount, amounts in (
        (row(type="buyXGetY", buy=2, get=1), ("8.00", "16.00")),
        (None, ("0.00", "24.00")),
        (row(**TIERED), ("5.00", "19.00")),
    ):
        await still.change(book, discount=discount)
        await comes_to(still, amounts, orderValue="24", items=items)
    assert (await still.stats(book))["discount_e4"] == 180_000


def row(**said: Any) -> DiscountRow:
    """A discount as the projector gets it."""
    nothing: dict[str, Any] = dict.fromkeys(["max_amount_e4", "min_order_value_e4", "currency", "digits"])
    return DiscountRow(**nothing | said)
