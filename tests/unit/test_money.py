"""Money: the scripts' integer arithmetic equals decimal arithmetic to the last digit."""

import os
import random
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import lupa.lua51
import pytest

from service.engine.domain.configuration import DiscountRow, TierRow
from service.engine.domain.discounts import MAX_TIERS
from service.engine.domain.errors import BadField
from service.engine.domain.field_types import MAX_INT
from service.engine.domain.money import CURRENCY_DIGITS, LIMIT, check_currency, to_e4
from service.engine.formats.stored_settings import _terms
from service.engine.hot import scripts
from service.engine.operations.order_fields import Item, order_amounts
from service.engine.operations.redeem import RedeemRequest
from tests.model import amounts

CASES = int(os.environ.get("SCRIP_MONEY_CASES", "60000"))
MOST_E4 = int(LIMIT) * 10_000 - 1
KINDS = ["percentage", "fixed", "tiered", "buyXGetY"]

Line = tuple[str, int, int]
"""A sku, how many units of it, at which price (e4)."""


@pytest.fixture(scope="module")
def discount_of():
    """Lua's discount_of(kind, terms, cap, order's value, digits, items), as text; numbers are doubles, as in Redis."""
    lua = lupa.lua51.LuaRuntime(unpack_returned_tuples=False)
    return lua.execute(
        scripts._expand(
            """-- @include discounts
            return function(kind, terms, cap, amount, digits, items)
              local taken = discount_of(kind, terms, tonumber(cap), tonumber(amount), items or '-', tostring(digits))
              return string.format('%.0f', taken)
            end"""
        )
    )


def expected(discount: DiscountRow, order: int, digits: int, lines: Sequence[Line] = ()) -> int:
    """The discount by decimals, in e4."""
    items = [{"sku": sku, "quantity": count, "unitPrice": amounts.units(price)} for sku, count, price in lines]
    return int(amounts.discount(discount, amounts.units(order), items, digits) * 10_000)


def free_by_units(buy: int, get: int, lines: Sequence[Line]) -> int:
    """What is free, with each unit in hand, as the contract's sentence has it."""
    total = 0
    for sku in {line[0] for line in lines}:
        units = sorted(price for name, count, price in lines if name == sku for _ in range(count))
        free = 0
        for bought in range(1, len(units) + 1):
            free += get if bought % (buy + get) == 0 else 0
        total += sum(units[:free])
    return total


def any_amount(pick: random.Random, unit: int, least: int = 0) -> int:
    """An amount of any size, in whole units."""
    return max(pick.randrange(10 ** pick.randrange(1, 16)) // unit, least) * unit


def any_value(pick: random.Random, kind: str, unit: int) -> int:
    """What a percentage or a fixed discount may have."""
    if kind == "fixed":
        return any_amount(pick, pick.choice([1, unit]), 1)
    return pick.choice([pick.randint(1, 1_000_000), pick.randint(1, 100) * 10_000, pick.randint(1, 200) * 5_000])


def any_discount(pick: random.Random, kind: str, unit: int, order: int) -> DiscountRow:
    """A discount of this type; some tiers begin near the order's value."""
    cap = None if pick.random() < 0.5 else any_amount(pick, unit)
    terms: dict[str, Any] = {"max_amount_e4": cap, "min_order_value_e4": None, "currency": None, "digits": None}
    match kind:
        case "tiered":
            froms = {any_amount(pick, unit) for _ in range(pick.randint(1, MAX_TIERS - 3))}
            froms |= {max(order + near * unit, 0) for near in (-1, 0, 1) if pick.random() < 0.3}
            rows: list[TierRow] = []
            for from_e4 in sorted(froms):
                of: Any = pick.choice(["percentage", "fixed"])
                rows.append(TierRow(from_e4=from_e4, type=of, value_e4=any_value(pick, of, unit)))
            terms["tiers"] = tuple(rows)
        case "buyXGetY":
            most = pick.choice([3, 10, 1000, MAX_INT])
            terms |= {"buy": pick.randint(1, most), "get": pick.randint(1, most)}
        case _:
            terms["value_e4"] = any_value(pick, kind, unit)
    return DiscountRow(type=kind, **terms)  # type: ignore[arg-type]


def any_lines(pick: random.Random, unit: int) -> list[Line]:
    """Some lines of few skus and prices, so that they meet."""
    count = pick.choice([0, 1, 2, 3, 5, 8, 30])
    most, largest = pick.choice([(3, 6), (10, 6), (10, 11), (1000, 8), (1_000_000, 8), (1_000_000, 16)])
    prices = [pick.randrange(10 ** pick.randrange(1, largest)) // unit * unit for _ in range(4)]
    return [(pick.choice("abc"), pick.randint(1, most), pick.choice(prices)) for _ in range(count)]


def packed(lines: Sequence[Line]) -> str:
    """The items as a redeem passes them."""
    items = [Item(sku=sku, quantity=units, unit_price=Decimal(price).scaleb(-4)) for sku, units, price in lines]
    return order_amounts(RedeemRequest(user_id="ann", items=items))[2]


def run_script(discount_of: Any, discount: DiscountRow, order: int, digits: int, lines: Sequence[Line] = ()) -> int:
    """The script's result for the terms that the projection writes and the items that a redeem passes."""
    cap = None if discount.max_amount_e4 is None else str(discount.max_amount_e4)
    return int(discount_of(discount.type, _terms(discount), cap, str(order), digits, packed(lines)))


def test_discounts_equal_decimals(discount_of) -> None:
    """Discounts of all types and digits equal decimal arithmetic, with and without a maximum, and at tiers' edges."""
    pick, came_to = random.Random(1), Counter[tuple[str, bool]]()
    for _ in range(CASES):
        kind, digits = pick.choice(KINDS), pick.choice([0, 2, 2, 3, 4])
        unit = 10 ** (4 - digits)
        lines = any_lines(pick, unit) if kind == "buyXGetY" else []
        order = sum(units * price for _, units, price in lines)
        if order > MOST_E4 or pick.random() < 0.6:
            order = any_amount(pick, unit)
        discount = any_discount(pick, kind, unit, order)
        discount_e4 = run_script(discount_of, discount, order, digits, lines)
        assert discount_e4 == expected(discount, order, digits, lines), (discount, order, digits, lines)
        assert 0 <= discount_e4 <= order
        assert discount_e4 % unit == 0
        came_to[kind, 0 < discount_e4 < order] += 1
    assert min(came_to[kind, True] for kind in KINDS) > CASES // 50, came_to


def test_free_units_are_counted_one_by_one(discount_of) -> None:
    """Of every buy + get units of a sku the cheapest `get` are free, as when each unit is counted on its own."""
    pick = random.Random(3)
    for _ in range(3000):
        buy, get = pick.randint(1, 4), pick.randint(1, 4)
        lines = [(pick.choice("ab"), pick.randint(1, 12), pick.randint(0, 5) * 100) for _ in range(pick.randint(0, 6))]
        discount, free, most = plain("buyXGetY", buy=buy, get=get), free_by_units(buy, get, lines), MOST_E4 // 100 * 100
        assert expected(discount, most, 2, lines) == free
        assert run_script(discount_of, discount, most, 2, lines) == free, (buy, get, lines)


@pytest.mark.parametrize(
    ("buy", "get", "lines", "free"),
    [
        (2, 1, [("a", 2, 500)], 0),
        (2, 1, [("a", 3, 500)], 500),
        (2, 1, [("a", 5, 500)], 500),
        (2, 1, [("a", 6, 500)], 1000),
        (2, 1, [("a", 1, 900), ("a", 1, 500), ("a", 1, 700)], 500),
        (2, 1, [("a", 3, 900), ("a", 3, 500)], 1000),
        (2, 1, [("a", 2, 500), ("b", 1, 500)], 0),
        (2, 1, [("a", 3, 500), ("b", 3, 100)], 600),
        (2, 1, [("a", 3, 500), ("A", 3, 100)], 600),
        (1, 2, [("a", 7, 100)], 400),
        (2, 1, [("a", 3, 0)], 0),
        (2, 1, [], 0),
        (MAX_INT, MAX_INT, [("a", 1_000_000, 100)] * 1000, 0),
        (999_999, 1, [("a", 1_000_000, 100)] * 1000, 100_000),
        (1, MAX_INT, [("a", 1_000_000, 100)] * 1000, 0),
        (1, 999_999, [("a", 1_000_000, 100)] * 1000, 99_999_900_000),
        (1, 1, [("a", 1_000_000, MOST_E4 // 100 * 100)] * 1000, MOST_E4 // 100 * 100),
        (1, 1, [(f"{n}", 1_000_000, MOST_E4 // 100 * 100) for n in range(1000)], MOST_E4 // 100 * 100),
    ],
)
def test_free_amounts(discount_of, buy: int, get: int, lines: list[Line], free: int) -> None:
    """Examples of free amounts, up to a thousand lines of a million units each at the largest price."""
    assert run_script(discount_of, plain("buyXGetY", buy=buy, get=get), MOST_E4 // 100 * 100, 2, lines) == free


def test_free_units_that_come_to_the_order_to_the_unit(discount_of) -> None:
    """Below 2⁵³ sums are exact; one unit less than the order's value is not taken for all of it."""
    for order in (MOST_E4, MOST_E4 - 1, 2**49, 2**49 + 1):
        for short in (0, 1, 2):
            lines = [("a", 1, order - short - 1), ("a", 1, order), ("b", 1, 1), ("b", 1, 5)]
            assert run_script(discount_of, plain("buyXGetY", buy=1, get=1), order, 4, lines) == order - short


def test_tiers_begin_at_their_edge(discount_of) -> None:
    """A tier applies from its `from` on, to the last digit, until the next one's; below the first there is none."""
    tiers = (
        TierRow(from_e4=1_000_000, type="percentage", value_e4=100_000),
        TierRow(from_e4=2_000_000, type="fixed", value_e4=500_000),
        TierRow(from_e4=MOST_E4, type="percentage", value_e4=1_000_000),
    )
    for order, discount in (
        (999_999, 0), (1_000_000, 100_000), (1_999_999, 200_000), (2_000_000, 500_000), (MOST_E4 - 1, 500_000),
        (MOST_E4, MOST_E4),
    ):  # fmt: skip
        assert run_script(discount_of, plain("tiered", tiers=tiers), order, 4) == discount, order


def plain(kind: Any, **terms: Any) -> DiscountRow:
    """A discount without cap, least value and currency of its own."""
    return DiscountRow(type=kind, max_amount_e4=None, min_order_value_e4=None, currency="USD", digits=2, **terms)


def test_ties_go_to_the_even_digit(discount_of) -> None:
    """Amounts halfway between two units are rounded to the even one, the smallest and the largest too."""
    for digits in (0, 1, 2, 3):
        unit = 10 ** (4 - digits)
        last = MOST_E4 // unit - 10
        for units in [*range(200), *range(last // 2, last // 2 + 40), *range(last, last + 9)]:
            even = units // 2 + (units % 4 == 3)
            for kind, terms in (("percentage", "500000"), ("tiered", "0:percentage:500000")):
                discount_e4 = discount_of(kind, terms, None, str(units * unit), digits)
                assert int(discount_e4) == even * unit, (kind, digits, units)


def test_the_largest_amounts(discount_of) -> None:
    """All of the largest order, a hair of it, and a discount of more than it."""
    assert discount_of("percentage", "1000000", None, str(MOST_E4), 4) == str(MOST_E4)
    assert discount_of("percentage", "1", None, str(MOST_E4), 4) == "1000000000"
    nearly = plain("percentage", value_e4=999_999)
    assert discount_of("percentage", "999999", None, str(MOST_E4), 4) == str(expected(nearly, MOST_E4, 4))
    assert discount_of("fixed", str(MOST_E4), None, "10000", 2) == "10000"


def test_a_maximum_is_not_passed_by_rounding(discount_of) -> None:
    """A discount that comes to its maximum and a part of a unit is the maximum, itself rounded half-even."""
    assert discount_of("percentage", "300000", "1", "5", 4) == "1"
    assert discount_of("fixed", "100", "50", "1000", 2) == "0"


def test_no_discount(discount_of) -> None:
    """A book without a discount, and an order of 0, have the discount 0."""
    assert discount_of(None, None, None, "123400", 2) == "0"
    assert discount_of("percentage", "1000000", None, "0", 2) == "0"


@pytest.mark.parametrize(
    ("text", "digits", "e4"),
    [
        ("25.5", 2, 255_000), ("25.5000000", 2, 255_000), ("1E+2", 0, 1_000_000), ("100.00", 0, 1_000_000),
        ("0", 0, 0), ("-0", 2, 0), ("0.000000000", 2, 0), ("0E-30", 2, 0), ("0E+30", 2, 0),
        ("99999999999.9999", 4, MOST_E4), ("0.0001", 4, 1), ("2.5" + "0" * 60, 2, 25_000),
    ],
)  # fmt: skip
def test_valid_amounts(text: str, digits: int, e4: int) -> None:
    """An amount is from 0 to just below 10¹¹, with no more digits than its currency has, besides trailing zeros."""
    assert to_e4("x", Decimal(text), digits) == e4


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("-0.01", 2), ("100000000000", 2), ("1E+11", 0), ("1E+999999", 4), ("0.001", 2), ("0.5", 0), ("1.00001", 4),
        ("1E-999999", 4), ("0.00001", 4), ("1." + "0" * 40 + "1", 2), ("99999999999.99991", 4), ("-1E-30", 2),
    ],
)  # fmt: skip
def test_amounts_that_are_out_of_range(text: str, digits: int) -> None:
    """An amount that is negative, too large or has too many digits is invalid."""
    with pytest.raises(BadField) as caught:
        to_e4("orderValue", Decimal(text), digits)
    assert (caught.value.field, caught.value.malformed) == ("orderValue", False)


@pytest.mark.parametrize("text", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_non_numbers_are_malformed(text: str) -> None:
    """NaN and infinity are malformed."""
    with pytest.raises(BadField) as caught:
        to_e4("x", Decimal(text))
    assert caught.value.malformed


def test_currencies_are_iso_4217s() -> None:
    """Each is three capital letters with 0, 2, 3 or 4 digits; others, and other spellings, are refused."""
    assert all(len(code) == 3 and code.isupper() and code.isascii() for code in CURRENCY_DIGITS)
    assert {CURRENCY_DIGITS[code] for code in ("JPY", "KRW", "VND")} == {0}
    assert {CURRENCY_DIGITS[code] for code in ("USD", "EUR", "IQD", "LBP")} == {2, 3}
    assert {CURRENCY_DIGITS[code] for code in ("KWD", "BHD", "TND")} == {3}
    assert CURRENCY_DIGITS["CLF"] == 4
    assert len(CURRENCY_DIGITS) > 150
    check_currency("currency", None)
    check_currency("currency", "USD")
    for bad in ("usd", "US", "USDT", "", "XXX", " USD"):
        with pytest.raises(BadField):
            check_currency("currency", bad)
