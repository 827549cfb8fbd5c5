"""A refusal says its figures: in its detail, as members of the problem document, and in a dry run's reasons."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from service.engine.domain.figures import FIGURES, Figures
from service.engine.domain.times import from_ms
from tests.harness.script_runner import NOW_MS
from tests.harness.shop import Shop

PERCENT = {"type": "percentage", "value_e4": 100_000}
LEAST = PERCENT | {"min_order_value_e4": 5_000_000}
LATER, EARLIER = NOW_MS + 60_000, NOW_MS - 60_000
Asks = Callable[[Shop], Awaitable[Any]]


def redeem(**asked: Any) -> Asks:
    return lambda shop: shop.redeem("CODE-1", "ann", **asked)


CASES: list[tuple[str, dict[str, Any], Asks, dict[str, Any], str, str]] = [
    ("not_started", {"valid_from_ms": LATER}, redeem(), {"validFrom": from_ms(LATER)}, "", from_ms(LATER)),
    ("expired", {"valid_until_ms": EARLIER}, redeem(), {"expiresAt": from_ms(EARLIER)}, "", from_ms(EARLIER)),
    (
        "expired",
        {"valid_until_ms": EARLIER},
        lambda shop: shop.assign("CODE-1", "ann"),
        {"expiresAt": from_ms(EARLIER)},
        "",
        from_ms(EARLIER),
    ),
    (
        "user_redemption_limit",
        {"max_redemptions_per_user": 1},
        lambda shop: shop.redeem("CODE-2", "eve"),
        {"maxRedemptionsPerUser": 1},
        "",
        ": 1. Live locks",
    ),
    ("out_of_stock", {"max_redemptions": 1}, redeem(), {"maxRedemptions": 1}, "", "book's 1 uses"),
    ("order_value_required", {"discount": PERCENT}, redeem(), {"currency": "USD"}, "orderValue", "value in USD"),
    (
        "currency_mismatch",
        {"discount": PERCENT | {"currency": "EUR", "digits": 2}},
        redeem(orderValue="50", currency="USD"),
        {"currency": "EUR"},
        "currency",
        "in USD, the coupon for orders in EUR",
    ),
    (
        "order_value_too_low",
        {"discount": LEAST},
        redeem(orderValue="450.5"),
        {"minOrderValue": "500.00", "missing": "49.50", "currency": "USD"},
        "orderValue",
        "from 500.00 USD; this one's value is 450.50, and 49.50 is missing.",
    ),
    (
        "invalid",
        {},
        redeem(orderValue="10.005"),
        {"currency": "USD"},
        "orderValue",
        "at most 2 digits after the point, as USD has, but is 10.005.",
    ),
    (
        "invalid",
        {"discount": PERCENT},
        redeem(orderValue="10", items=[{"sku": "tea", "quantity": 1, "unitPrice": "1.505"}]),
        {"currency": "USD"},
        "items",
        "unitPrice of at most 2 digits after the point, as USD has.",
    ),
    (
        "invalid",
        {"discount": PERCENT},
        redeem(orderValue="10", items=[{"sku": "tea", "quantity": 2, "unitPrice": "5.50"}]),
        {"currency": "USD"},
        "items",
        "are worth 11.00 USD together, more than the orderValue of 10.00",
    ),
    (
        "price_changed",
        {"discount": PERCENT},
        redeem(orderValue="200", expectedFinalAmount="99.50"),
        {"currency": "USD", "finalAmount": "180.00", "expectedFinalAmount": "99.50"},
        "",
        "is 180.00 USD now, not 99.50",
    ),
    (
        "invalid",
        {},
        lambda shop: shop.checkout("ann", "A-1", "10.005"),
        {"currency": "USD"},
        "orderValue",
        "but is 10.005.",
    ),
]


@pytest.mark.parametrize(("code", "rules", "ask", "figures", "field", "says"), CASES)
async def test_a_refusal_has_its_figures(
    still: Shop, code: str, rules: dict[str, Any], ask: Asks, figures: dict[str, Any], field: str, says: str
) -> None:
    """What stands in the way, as figures, with the bad field, and in words."""
    await still.book("CODE-1", "CODE-2", "CODE-3", **rules)
    if "max" in str(rules):
        assert (await still.redeem("CODE-3", "eve"))[0] == 201
    await still.refuses(code, ask(still))
    refusal = still.refusal
    assert refusal
    assert (refusal.figures, [error.field for error in refusal.errors]) == (figures, [field] if field else [])
    assert says in refusal.detail


async def test_a_dry_run_has_the_figures_of_each_reason(still: Shop) -> None:
    """Validate says of each reason what the refusal of a redeem would."""
    await still.book("CODE-1", valid_until_ms=EARLIER, discount=LEAST)
    _, body = await still.validate("CODE-1", orderValue="499.99")
    assert body["reasons"] == ["expired", "order_value_too_low"]
    described = [{name: value for name, value in refusal.items() if name != "detail"} for refusal in body["refusals"]]
    assert described == [
        {"code": "expired", "for": "shopper", "expiresAt": from_ms(EARLIER)},
        {"code": "order_value_too_low", "for": "shopper"}
        | {"minOrderValue": "500.00", "missing": "0.01", "currency": "USD"},
    ]
    assert all(refusal["detail"] for refusal in body["refusals"])


async def test_a_lock_at_its_ceiling_says_when_it_ends(still: Shop) -> None:
    """lock_ceiling has the lock's end, and the book's ceiling."""
    await still.book("CODE-1", lock_seconds=60, max_lock_seconds=60)
    _, lock = await still.lock("CODE-1", "ann")
    await still.refuses("lock_ceiling", still.extend("CODE-1", lock["lockToken"]))
    assert still.refusal
    assert still.refusal.figures == {"expiresAt": lock["expiresAt"], "maxLockSeconds": 60}
    assert lock["expiresAt"] in still.refusal.detail


async def test_a_users_limits_are_said(still: Shop) -> None:
    """A refused assignment has the book's limit of codes per user, or the user's of coupons."""
    await still.book("CODE-1", "CODE-2", max_codes_per_user=1)
    await still.book("CODE-3")
    await still.user("eve", 1)
    assert (await still.assign("CODE-1", "eve"))[0] == 201
    for code, refused, figures in (
        ("CODE-2", "user_code_limit", {"maxCodesPerUser": 1}),
        ("CODE-3", "user_coupon_limit", {"maxCoupons": 1}),
    ):
        await still.refuses(refused, still.assign(code, "eve"))
        assert still.refusal
        assert still.refusal.figures == figures
        assert ": 1" in still.refusal.detail


def test_the_table_names_the_members_of_the_document() -> None:
    """Each code's figures are among the documented ones, and each of these is some code's."""
    named = {name for _, names in FIGURES.values() for name in names.split()}
    assert named == set(Figures.__struct_fields__)
