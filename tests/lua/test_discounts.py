"""Discounts by tiers and by free units: what redeem and validate subtract, and what both refuse."""

from decimal import Decimal
from typing import Any

import pytest

from service.engine.domain.configuration import DiscountRow, TierRow
from service.engine.domain.money import from_e4
from service.engine.formats import discount_sum
from service.server.in_redis.workspace_state import Workspace
from tests.harness.shop import Shop, together

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
    if lines is None:
        return None
    return [{"sku": sku, "quantity": count, "unitPrice": price} for sku, count, price in lines]


async def assert_amounts(shop: Shop, amounts: tuple[str, str], **request: Any) -> None:
    """Validate, and then redeem, answer with this discount of CODE-1 and this final amount."""
    _, validation = await shop.validate("CODE-1", **request)
    _, redemption = await shop.redeem("CODE-1", "ann", **request)
    for answer in (validation, redemption):
        assert (answer["discountAmount"], answer["finalAmount"]) == amounts


BUY_ONE = {"type": "buyXGetY", "buy": 1, "get": 1}
LARGEST = "99999999999.99"


@pytest.mark.parametrize(
    ("discount", "lines", "value", "amounts"),
    [
        ({"type": "percentage", "value_e4": 200_000, "max_amount_e4": 100_000}, None, "125.00", ("10.00", "115.00")),
        ({"type": "percentage", "value_e4": 100_000}, None, "0.25", ("0.02", "0.23")),
        ({"type": "percentage", "value_e4": 1_000_000}, None, LARGEST, (LARGEST, "0.00")),
        ({"type": "fixed", "value_e4": 250_000}, None, "100", ("25.00", "75.00")),
        ({"type": "fixed", "value_e4": 250_000}, None, "24.99", ("24.99", "0.00")),
        (TIERED, None, "20", ("5.00", "15.00")),
        (TIERED, None, LARGEST, ("40.00", "99999999959.99")),
        (BUY_ONE, [("tea", 1, "5"), ("cup", 1, "1"), ("tea", 2, "3.99")], "13.98", ("3.99", "9.99")),
        (
            BUY_ONE | {"max_amount_e4": 70_000, "min_order_value_e4": 180_000},
            [("tea", 2, "9")],
            "18",
            ("7.00", "11.00"),
        ),
        (BUY_ONE, [("tea", 2, "49999999999.99")], "99999999999.98", ("49999999999.99", "49999999999.99")),
    ],
)
async def test_what_a_discount_comes_to(
    still: Shop, discount: dict[str, Any], lines: Lines | None, value: str, amounts: tuple[str, str]
) -> None:
    """Validate and redeem subtract the same; every case of the arithmetic is in tests/unit/test_money.py."""
    book = await still.book("CODE-1", discount=discount)
    await assert_amounts(still, amounts, orderValue=value, items=items_of(lines))
    assert (await still.stats(book))["discount_e4"] == int(amounts[0].replace(".", "")) * 100


@pytest.mark.parametrize("uses", [1, None])
@pytest.mark.parametrize("value", [LARGEST, "100000.01", "100000.00", "99999.99"])
async def test_no_counter_takes_a_large_discount_whole(still: Shop, uses: int | None, value: str) -> None:
    """Discounts are summed in two counters, of which neither nears 2^63: of single redemptions, of several in a call
    and of checkouts. What is rolled back leaves both."""
    codes = [f"CODE-{n}" for n in range(4)]
    book = await still.book(
        *codes, max_redemptions_per_code=uses, discount={"type": "percentage", "value_e4": 1_000_000}
    )
    _, alone = await still.redeem(codes[0], "ann", orderValue=value)
    joined = await together(*(still.redeem(code, "ann", orderValue=value) for code in codes[1:3]))
    _, bought = await still.checkout("ann", "A-1", value, code=codes[3])
    amount_e4 = int(value.replace(".", "")) * 100
    names = (discount_sum.LOW, discount_sum.HIGH)

    async def read_parts() -> tuple[int, ...]:
        stored = await still.link.call("HMGET", f"{still.caller.prefix}n:{book.book}", *names)
        return tuple(int(part or 0) for part in stored)

    low, high = await read_parts()
    assert low <= 4 * 999_999_999
    assert discount_sum.join_sum(low, high) == 4 * amount_e4
    counts = await Workspace(still.decider).book_counts(still.caller, str(book.book_id))
    assert counts.discount_total == from_e4(4 * amount_e4, 2)
    for redemption in (alone, *(body for _, body in joined), bought["redemption"]):
        await still.rollback(redemption["redemptionId"])
    assert await read_parts() == (0, 0)


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
    fine = {"orderValue": least, "items": items_of([("tea", 2, "1")])}
    assert (await still.validate("CODE-1", **fine))[1]["reasons"] == []
    assert (await still.redeem("CODE-1", "ann", **fine))[0] == 201


@pytest.mark.parametrize(
    ("discount", "lines", "value", "field"),
    [
        (BUY_ONE, None, "20", "items"),
        (BUY_ONE, [("tea", 1, "5"), ("cup", 1, "5")], "20", "items"),
        (BUY_ONE, [("tea", 2, "0")], "20", "items"),
        ({"type": "percentage", "value_e4": 100_000}, None, "0.04", "orderValue"),
        ({"type": "fixed", "value_e4": 100_000}, None, "0", "orderValue"),
        ({"type": "fixed", "value_e4": 100_000, "max_amount_e4": 0}, None, "20", "orderValue"),
    ],
)
async def test_a_use_is_not_spent_for_nothing(
    still: Shop, discount: dict[str, Any], lines: Lines | None, value: str, field: str
) -> None:
    """An order that would get a discount of 0 is refused: by redeem, under a lock, by checkout, and in a dry run."""
    book = await still.book("CODE-1", discount=discount)
    asked = {"orderValue": value, "items": items_of(lines)}
    await still.refuses("no_discount", still.checkout("ann", "A-1", value, code="CODE-1", items=asked["items"]))
    _, lock = await still.lock("CODE-1", "ann")
    for request in (asked, {**asked, "lockToken": lock["lockToken"]}):
        await still.refuses("no_discount", still.redeem("CODE-1", "ann", **request))
        assert (await still.validate("CODE-1", userId="ann", **request))[1]["reasons"] == ["no_discount"]
    assert still.refusal
    assert [error.field for error in still.refusal.errors] == [field]
    assert still.refusal.figures == ({"buy": 1, "get": 1} if field == "items" else {})
    assert (await still.stats(book))["redemptions"] == 0
    assert (await still.coupon("CODE-1"))[1]["redemptions"] == 0


@pytest.mark.parametrize(("currency", "digits", "uses"), [("JPY", 0, 1), ("KWD", 3, 2)])
async def test_unit_prices_have_the_currencys_digits(still: Shop, currency: str, digits: int, uses: int) -> None:
    """A unit's price with more digits than the currency has is invalid, whether or not the request names it."""
    own = {"currency": currency, "digits": digits}
    await still.put_workspace(**own)
    discount = {"type": "buyXGetY", "buy": 1, "get": 1, **own}
    book = await still.book("CODE-1", discount=discount, max_redemptions_per_code=uses)
    fine, too_fine = Decimal(7).scaleb(-digits), Decimal(7).scaleb(-digits - 1)
    for named in ({}, {"currency": currency}):
        asked = {"orderValue": "14", "items": items_of([("tea", 2, str(too_fine))]), **named}
        await still.refuses("invalid", still.redeem("CODE-1", "ann", **asked))
        await still.refuses("invalid", still.validate("CODE-1", **asked))
    amounts = (f"{fine:.{digits}f}", f"{14 - fine:.{digits}f}")
    await assert_amounts(still, amounts, orderValue="14", items=items_of([("tea", 2, str(fine))]))
    counts = await Workspace(still.decider).book_counts(still.caller, str(book.book_id))
    assert counts.discount_total == amounts[0]
    assert (await still.last_event())["d"].split(" ")[7:9] == [currency, str(digits)]


async def test_a_changed_discount_governs_codes_that_are_there(still: Shop) -> None:
    """Each redeem and validate is by the discount that then is; only buyXGetY counts an order's items."""
    items = items_of([("tea", 3, "8")])
    book = await still.book("CODE-1", max_redemptions_per_code=None, discount=TIERED)
    await assert_amounts(still, ("5.00", "19.00"), orderValue="24", items=items)
    for discount, amounts in (
        (row(type="buyXGetY", buy=2, get=1), ("8.00", "16.00")),
        (None, ("0.00", "24.00")),
        (row(**TIERED), ("5.00", "19.00")),
    ):
        await still.change(book, discount=discount)
        await assert_amounts(still, amounts, orderValue="24", items=items)
    assert (await still.stats(book))["discount_e4"] == 180_000


def row(**fields: Any) -> DiscountRow:
    """A discount as the projector gets it."""
    nothing: dict[str, Any] = dict.fromkeys(["max_amount_e4", "min_order_value_e4", "currency", "digits"])
    return DiscountRow(**nothing | fields)
