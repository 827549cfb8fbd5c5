"""A lock holds the price of an order: what redeem takes of it, when it is decided again, and what ends it."""

import dataclasses
import os
import random
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from msgspec.structs import replace

from service.engine.domain.configuration import BookRow, DiscountRow, TierRow
from service.engine.domain.money import CURRENCY_DIGITS
from service.engine.operations.caller import Caller
from tests.harness.script_runner import NOW_MS
from tests.harness.shop import Shop, tally, together
from tests.lua.consistency import assert_consistent

ORDERS = int(os.environ.get("SCRIP_PRICES", "60"))
"""With random amounts; SCRIP_PRICES=5000 makes more."""
TENTH: dict[str, Any] = {"type": "percentage", "value_e4": 100_000}
HALF: dict[str, Any] = {"type": "percentage", "value_e4": 500_000}
BUY_ONE: dict[str, Any] = {"type": "buyXGetY", "buy": 1, "get": 1}
FIFTH_OF_100 = {"orderValue": "100.00", "currency": "USD", "discountAmount": "20.00", "finalAmount": "80.00"}
NO_PRICE = {"orderValue": None, "currency": None, "discountAmount": None, "finalAmount": None}
FIFTH: dict[str, Any] = {"type": "percentage", "value_e4": 200_000}


def amounts(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: answer[name] for name in FIFTH_OF_100}


async def lock(shop: Shop, code: str = "CODE-1", value: str | None = "100", **more: Any) -> dict[str, Any]:
    """Lock for ann and A-1; the answer."""
    more = {"userId": "ann", "orderId": "A-1"} | more
    if value is not None:
        more["orderValue"] = Decimal(value)
    status, answer = await shop.lock(code, more.pop("userId"), **more)
    assert status in (200, 201), answer
    return answer


def of_token(shop: Shop) -> Caller:
    """The caller with ann's token."""
    return dataclasses.replace(shop.caller, user="ann")


async def test_a_lock_with_a_value_holds_its_price(shop: Shop, uses: int | None) -> None:
    """Its answer has the amounts, and so have a repeat, an extension, and the redemption, which sends none."""
    await shop.book("CODE-1", discount=FIFTH, max_redemptions_per_code=uses)
    first = await lock(shop)
    assert amounts(first) == FIFTH_OF_100
    assert amounts(await lock(shop, value=None)) == FIFTH_OF_100
    _, extended = await shop.extend("CODE-1", first["lockToken"], lockSeconds=900)
    assert amounts(extended) == FIFTH_OF_100
    _, validation = await shop.validate("CODE-1", userId="ann", orderId="A-1")
    assert (validation["valid"], validation["finalAmount"], validation["currency"]) == (True, "80.00", "USD")
    status, redemption = await shop.redeem("CODE-1", "ann", orderId="A-1", lockToken=first["lockToken"])
    assert (status, amounts(redemption)) == (201, FIFTH_OF_100)
    await assert_consistent(shop)


async def test_a_lock_without_a_value_holds_no_price(shop: Shop, uses: int | None) -> None:
    """It holds a use alone: the redemption needs the value, and is priced by then."""
    book = await shop.book("CODE-1", discount=FIFTH, max_redemptions_per_code=uses)
    assert amounts(await lock(shop, value=None)) == NO_PRICE
    await shop.refuses("order_value_required", shop.redeem("CODE-1", "ann", orderId="A-1"))
    await shop.change(book, discount=terms(book, **HALF))
    _, redemption = await shop.redeem("CODE-1", "ann", orderId="A-1", orderValue="100")
    assert redemption["discountAmount"] == "50.00"


def terms(book: BookRow, **changes: Any) -> DiscountRow:
    """The book's discount with these changes."""
    assert book.discount is not None
    return replace(book.discount, **changes)


CHANGES: dict[str, dict[str, Any]] = {
    "discount": {},
    "minimum": {"min_order_value_e4": 9_000_000},
    "switched off": {"status": "inactive"},
    "archived": {"status": "archived"},
    "not yet": {"valid_from_ms": NOW_MS + 900_000},
    "ended": {"valid_until_ms": NOW_MS - 1},
    "user's limit": {"max_redemptions_per_user": 1},
    "total": {"max_redemptions": 1},
    "needs owner": {"require_assignment": True},
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_of_the_book_leaves_live_locks_as_they_are(still: Shop, uses: int | None, change: str) -> None:
    """A redemption under a lock has its price and its use, whatever the book says since; others go by the new rules."""
    rules = dict(CHANGES[change])
    book = await still.book("CODE-1", "CODE-2", "CODE-3", discount=FIFTH, max_redemptions_per_code=uses)
    assert (await still.redeem("CODE-3", "ann", orderId="A-3", orderValue="100"))[0] == 201
    await lock(still)
    least = rules.pop("min_order_value_e4", None)
    rules["discount"] = terms(book, value_e4=50_000, min_order_value_e4=least)
    await still.change(book, **rules)
    refused = await still.redeem("CODE-2", "ann", orderId="A-2", orderValue="100")
    assert refused[0] == 201 if change == "discount" else refused[0] in (409, 422), refused
    repeated = await lock(still)
    assert amounts(repeated) == FIFTH_OF_100
    status, redemption = await still.redeem("CODE-1", "ann", orderId="A-1")
    assert (status, amounts(redemption)) == (201, FIFTH_OF_100)
    await assert_consistent(still)


async def test_other_amounts_are_priced_anew(shop: Shop, uses: int | None) -> None:
    """A redeem that sends other amounts than the lock's is priced by the terms of then; the use stays held."""
    book = await shop.book("CODE-1", "CODE-2", discount=FIFTH, max_redemptions_per_code=uses)
    await lock(shop)
    await lock(shop, "CODE-2", orderId="A-2")
    await shop.change(book, status="inactive", discount=terms(book, **HALF, min_order_value_e4=1_500_000))
    await shop.refuses("order_value_too_low", shop.redeem("CODE-1", "ann", orderId="A-1", orderValue="120"))
    await shop.refuses("currency_mismatch", shop.redeem("CODE-1", "ann", orderId="A-1", currency="EUR"))
    _, redemption = await shop.redeem("CODE-1", "ann", orderId="A-1", orderValue="200")
    assert (redemption["discountAmount"], redemption["finalAmount"]) == ("100.00", "100.00")
    _, redemption = await shop.redeem("CODE-2", "ann", orderId="A-2", orderValue="100.0", currency="USD")
    assert amounts(redemption) == FIFTH_OF_100


async def test_a_repeated_lock_holds_its_own_amounts(shop: Shop, uses: int | None) -> None:
    """With other amounts it holds these, under the same token; refused, it changes nothing."""
    book = await shop.book("CODE-1", discount=FIFTH, max_redemptions_per_code=uses)
    first = await lock(shop)
    second = await lock(shop, value="50")
    assert (second["lockToken"], second["finalAmount"]) == (first["lockToken"], "40.00")
    await shop.change(book, discount=terms(book, **HALF, min_order_value_e4=600_000))
    await shop.refuses("order_value_too_low", shop.lock("CODE-1", "ann", orderId="A-1", orderValue=Decimal(55)))
    assert (await lock(shop, value="50"))["finalAmount"] == "40.00"
    assert (await lock(shop, value="60"))["finalAmount"] == "30.00"
    assert (await shop.redeem("CODE-1", "ann", orderId="A-1"))[1]["finalAmount"] == "30.00"


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (FIFTH | {"min_order_value_e4": 2_000_000}, {"orderValue": 100}, "order_value_too_low"),
    (FIFTH, {"orderValue": 100, "currency": "EUR"}, "currency_mismatch"),
    (FIFTH, {"currency": "EUR"}, "currency_mismatch"),
    (FIFTH, {"orderValue": 0}, "no_discount"),
    (BUY_ONE, {"orderValue": 100}, "no_discount"),
    (FIFTH, {"orderValue": Decimal("1.005")}, "invalid"),
    (BUY_ONE, {"orderValue": 1, "items": [{"sku": "tea", "quantity": 2, "unitPrice": 50}]}, "invalid"),
    (FIFTH | {"currency": "EUR"}, {"orderValue": 100}, "currency_mismatch"),
]


@pytest.mark.parametrize(("discount", "body", "refusal"), REFUSED)
async def test_a_lock_refuses_what_redeem_would(
    shop: Shop, uses: int | None, discount: dict[str, Any], body: dict[str, Any], refusal: str
) -> None:
    """An order that gets no discount is refused at the lock already, by the same code."""
    await shop.book("CODE-1", discount=discount, max_redemptions_per_code=uses)
    body = {name: Decimal(value) if name == "orderValue" else value for name, value in body.items()}
    for ask in (shop.lock, shop.redeem):
        if ask == shop.redeem and "orderValue" not in body:
            continue
        await shop.refuses(refusal, ask("CODE-1", "ann", orderId="A-1", **body))


async def test_items_are_held_line_by_line(shop: Shop) -> None:
    """What redeem leaves out is the lock's; other lines are priced again, and are worth the order at most."""
    lines = [{"sku": "tea", "quantity": 2, "unitPrice": 10}]
    book = await shop.book("CODE-1", "CODE-2", "CODE-3", discount=BUY_ONE)
    for code, order in (("CODE-1", "A-1"), ("CODE-2", "A-2"), ("CODE-3", "A-3")):
        assert (await lock(shop, code, "30", orderId=order, items=lines))["discountAmount"] == "10.00"
    await shop.change(book, discount=terms(book, max_amount_e4=40_000))
    assert (await shop.redeem("CODE-1", "ann", orderId="A-1", items=lines))[1]["discountAmount"] == "10.00"
    others = [lines[0] | {"unitPrice": 9}]
    assert (await shop.redeem("CODE-2", "ann", orderId="A-2", items=others))[1]["discountAmount"] == "4.00"
    await shop.refuses("invalid", shop.redeem("CODE-3", "ann", orderId="A-3", orderValue="10"))
    assert (await shop.redeem("CODE-3", "ann", orderId="A-3", orderValue="25"))[1]["discountAmount"] == "4.00"


async def test_what_a_users_token_claims_is_no_price(shop: Shop, uses: int | None) -> None:
    """A key sends the amounts of a token's lock, and gets its price where they are equal; the token need not."""
    await shop.book("CODE-1", "CODE-2", "CODE-3", discount=FIFTH, max_redemptions_per_code=uses)
    key, token = shop.caller, of_token(shop)
    shop.caller = token
    for code, order in (("CODE-1", "A-1"), ("CODE-2", "A-2"), ("CODE-3", "A-3")):
        await lock(shop, code, orderId=order)
    shop.caller = key
    await shop.refuses("order_value_required", shop.redeem("CODE-1", "ann", orderId="A-1"))
    assert (await shop.validate("CODE-1", userId="ann", orderId="A-1"))[1]["reasons"] == ["order_value_required"]
    _, redemption = await shop.redeem("CODE-1", "ann", orderId="A-1", orderValue="100")
    assert amounts(redemption) == FIFTH_OF_100
    await lock(shop, "CODE-2", orderId="A-2")  # the key's from here on
    assert (await shop.redeem("CODE-2", "ann", orderId="A-2"))[0] == 201
    shop.caller = token
    assert (await shop.redeem("CODE-3", "ann", orderId="A-3"))[0] == 201


async def test_an_expected_amount_is_the_final_one_or_nothing_is_spent(shop: Shop, uses: int | None) -> None:
    """`price_changed` is the last refusal; a repeat isn't judged; without a value it can't be."""
    book = await shop.book("CODE-1", "CODE-2", discount=FIFTH, max_redemptions_per_code=uses)
    plain = await shop.book("CODE-4")
    assert plain.discount is None
    ask = {"orderId": "A-1", "orderValue": "100"}
    await shop.refuses("price_changed", shop.redeem("CODE-1", "ann", **ask, expectedFinalAmount=Decimal("79.99")))
    assert shop.refusal is not None
    assert shop.refusal.figures == {"finalAmount": "80.00", "expectedFinalAmount": "79.99", "currency": "USD"}
    checked = {"code": "CODE-1", "expectedFinalAmount": Decimal(81)}
    await shop.refuses("price_changed", shop.checkout("ann", "A-1", "100", **checked))
    await shop.refuses("order_value_required", shop.redeem("CODE-4", "ann", expectedFinalAmount=Decimal(80)))
    await shop.change(book, status="inactive")
    await shop.refuses("book_inactive", shop.redeem("CODE-1", "ann", **ask, expectedFinalAmount=Decimal(1)))
    await shop.change(book, status="active")
    assert (await shop.redeem("CODE-1", "ann", **ask, expectedFinalAmount=Decimal("80.000")))[0] == 201
    assert (await shop.redeem("CODE-1", "ann", **ask, expectedFinalAmount=Decimal(1)))[0] == 200
    await lock(shop, "CODE-2", orderId="A-2")
    await shop.refuses("price_changed", shop.redeem("CODE-2", "ann", orderId="A-2", expectedFinalAmount=Decimal(100)))
    assert (await shop.redeem("CODE-2", "ann", orderId="A-2", expectedFinalAmount=Decimal(80)))[0] == 201


async def test_a_checkout_without_a_code_compares_the_orders_value(shop: Shop) -> None:
    """Nothing is given where another amount is expected; a repeat isn't judged."""
    gifts = {"giftBookId": str((await shop.book("GIFT-1")).book_id)}
    for currency, final in (({}, "100.00"), ({"currency": "KWD"}, "100.000")):
        other = gifts | currency | {"expectedFinalAmount": Decimal(99)}
        await shop.refuses("price_changed", shop.checkout("ann", "A-1", "100", **other))
        assert shop.refusal is not None
        assert shop.refusal.figures["finalAmount"] == final
    status, bought = await shop.checkout("ann", "A-1", "100", **gifts, expectedFinalAmount=Decimal("100.0"))
    assert (status, bought["gift"]["code"]) == (201, "GIFT-1")
    assert (await shop.checkout("ann", "A-1", "100", **gifts, expectedFinalAmount=Decimal(99)))[0] == 200


async def test_a_code_that_is_switched_off_ends_its_locks(shop: Shop, uses: int | None) -> None:
    """Its tokens are lost, also once it is on again; what they held of limits is free."""
    rules: dict[str, Any] = {"max_redemptions_per_code": uses, "max_redemptions": 3, "max_redemptions_per_user": 1}
    book = await shop.book("CODE-1", "CODE-2", discount=FIFTH, **rules)
    token = (await lock(shop))["lockToken"]
    await shop.add(book, "CODE-1", active=False)
    await shop.refuses("coupon_inactive", shop.redeem("CODE-1", "ann", orderId="A-1", lockToken=token))
    assert (await shop.lock("CODE-2", "ann"))[0] == 201
    await shop.add(book, "CODE-1", active=True)
    await shop.refuses("lock_lost", shop.redeem("CODE-1", "ann", orderId="A-1", lockToken=token))
    await assert_consistent(shop)


async def test_an_order_without_a_currency_is_in_the_workspaces(shop: Shop) -> None:
    """A book's own currency is no default of its orders; without a value there is none to mismatch."""
    euros = FIFTH | {"currency": "EUR"}
    await shop.book("CODE-1", "CODE-2", discount=euros)
    await shop.refuses("currency_mismatch", shop.redeem("CODE-1", "ann", orderValue="100"))
    assert (await shop.validate("CODE-1", orderValue="100"))[1]["currency"] == "USD"
    assert (await shop.validate("CODE-1", userId="ann"))[1]["reasons"] == ["order_value_required"]
    assert (await shop.redeem("CODE-1", "ann", orderValue="100", currency="EUR"))[1]["currency"] == "EUR"
    assert (await lock(shop, "CODE-2", currency="EUR"))["currency"] == "EUR"
    assert (await shop.redeem("CODE-2", "ann", orderId="A-1"))[1]["currency"] == "EUR"


async def test_locks_with_prices_in_parallel(shop: Shop) -> None:
    """Of many users with values each gets the price of its own lock."""
    codes = [f"CODE-{n}" for n in range(40)]
    book = await shop.book(*codes, discount=FIFTH)
    locks = await together(
        *(shop.lock(code, f"u{n}", orderId=f"A-{n}", orderValue=Decimal(10 + n)) for n, code in enumerate(codes))
    )
    await shop.change(book, discount=terms(book, **TENTH))
    redeemed = await together(*(shop.redeem(code, f"u{n}", orderId=f"A-{n}") for n, code in enumerate(codes)))
    assert tally([*locks, *redeemed]) == {201: 80}
    for n, (_, answer) in enumerate(redeemed):
        assert Decimal(answer["discountAmount"]) == Decimal(10 + n) / 5
    await assert_consistent(shop)


def terms_at_random(chance: random.Random, currency: str) -> dict[str, Any]:
    """A discount's fields."""
    percentage: dict[str, Any] = {"type": "percentage", "value_e4": chance.randint(1, 1_000_000)}
    unit = 10 ** (4 - CURRENCY_DIGITS[currency])
    fixed: dict[str, Any] = {"type": "fixed", "value_e4": chance.randint(1, 50_000) * unit}
    froms = sorted(chance.sample(range(200_000), chance.randint(1, 4)))
    tiers = tuple(TierRow(from_e4=at * unit, **chance.choice([percentage, fixed])) for at in froms)
    tiered = {"type": "tiered", "tiers": tiers}
    free = {"type": "buyXGetY", "buy": chance.randint(1, 3), "get": chance.randint(1, 2)}
    bounds = {
        "max_amount_e4": chance.choice([None, chance.randint(1, 30_000) * unit]),
        "min_order_value_e4": chance.choice([None, None, chance.randint(1, 100_000) * unit]),
    }
    return {
        "currency": currency,
        "digits": CURRENCY_DIGITS[currency],
        **chance.choice([percentage, fixed, tiered, free]),
        **bounds,
    }


async def test_a_book_that_changes_under_its_locks(still: Shop) -> None:
    """Each redemption has its lock's price, whatever the book's discount, window, limits and status have become."""
    chance = random.Random(8)
    codes = [f"CODE-{n}" for n in range(ORDERS)]
    book = await still.book(*codes, discount=TENTH)
    values = {code: chance.randint(100, 10**6) / Decimal(100) for code in codes}
    held = {code: (await still.lock(code, "ann", orderId=code, orderValue=value))[1] for code, value in values.items()}
    for each in held.values():
        assert Fraction(each["discountAmount"]) == round(Fraction(each["orderValue"]) / 10, 2)
    while codes:
        book = await still.change(
            book,
            discount=DiscountRow(**terms_at_random(chance, "USD")),
            status=chance.choice(["active", "inactive", "archived"]),
            valid_from_ms=chance.choice([None, NOW_MS + 900_000]),
            valid_until_ms=chance.choice([None, NOW_MS - 1]),
            max_redemptions=chance.choice([None, 1]),
            max_redemptions_per_user=chance.choice([None, 1]),
        )
        for code in [codes.pop() for _ in range(min(len(codes), 3))]:
            order = chance.choice([{}, {"orderValue": values[code]}])
            status, redeemed = await still.redeem(code, "ann", orderId=code, **order)
            assert (status, amounts(redeemed)) == (201, amounts(held[code]))
    await assert_consistent(still)
