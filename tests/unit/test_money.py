"""Money: what scripts reckon in integers is what decimals say, to the last digit."""

import random
from decimal import ROUND_HALF_EVEN, Decimal

import lupa.lua51
import pytest

from service.domain.errors import BadField
from service.domain.money import CURRENCY_DIGITS, LIMIT, check_currency, from_e4, to_e4
from service.resources import LUA_DIR

CASES = 60_000
MOST_E4 = int(LIMIT) * 10_000 - 1


@pytest.fixture(scope="module")
def discount_of():
    """Lua's discount_of(kind, value, cap, order's value, digits), as text; its numbers are doubles, as in Redis."""
    lua = lupa.lua51.LuaRuntime(unpack_returned_tuples=False)
    source = (LUA_DIR / "includes" / "money.lua").read_text()
    return lua.execute(
        source
        + """
        return function(kind, value, cap, order, digits)
          local book = { kind = kind, value = tonumber(value), cap = tonumber(cap) }
          return string.format('%.0f', discount_of(book, tonumber(order), digits))
        end
        """
    )


def expected(kind: str, value: int, cap: int | None, order: int, digits: int) -> int:
    """The discount by decimals, in e4."""
    amount = Decimal(value)
    if kind == "percentage":
        amount = Decimal(order) * Decimal(value) / 1_000_000
    if cap is not None:
        amount = min(amount, Decimal(cap))
    unit = Decimal(10) ** (4 - digits)
    rounded = (amount / unit).quantize(Decimal(1), ROUND_HALF_EVEN) * unit
    return int(min(rounded, Decimal(order)))


def test_discounts_are_what_decimals_say(discount_of) -> None:
    """60,000 discounts, small to the largest, for all currencies' digits, with and without a maximum."""
    pick = random.Random(1)
    for _ in range(CASES):
        digits = pick.choice([0, 2, 2, 3, 4])
        unit = 10 ** (4 - digits)
        order = pick.randrange(10 ** pick.randrange(1, 16)) // unit * unit
        percentage = pick.random() < 0.8
        value = pick.choice([pick.randint(1, 1_000_000), pick.randint(1, 100) * 10_000, pick.randint(1, 200) * 5_000])
        if not percentage:
            value = pick.randrange(1, 10 ** pick.randrange(2, 16))
        cap = None if pick.random() < 0.5 else pick.randrange(1, 10 ** pick.randrange(2, 16)) // unit * unit
        kind = "percentage" if percentage else "fixed"
        found = discount_of(kind, str(value), None if cap is None else str(cap), str(order), digits)
        assert int(found) == expected(kind, value, cap, order, digits), (kind, value, cap, order, digits)


def test_ties_go_to_the_even_digit(discount_of) -> None:
    """Amounts halfway between two units are rounded to the even one, the smallest and the largest too."""
    for digits in (0, 2, 3):
        unit = 10 ** (4 - digits)
        last = MOST_E4 // unit - 10
        for units in [*range(200), *range(last // 2, last // 2 + 40), *range(last, last + 9)]:
            found = discount_of("percentage", "500000", None, str(units * unit), digits)
            even = units // 2 + (units % 4 == 3)
            assert int(found) == even * unit, (digits, units)


def test_the_largest_amounts(discount_of) -> None:
    """All of the largest order, a hair of it, and a discount of more than it."""
    assert discount_of("percentage", "1000000", None, str(MOST_E4), 4) == str(MOST_E4)
    assert discount_of("percentage", "1", None, str(MOST_E4), 4) == "1000000000"
    assert discount_of("percentage", "999999", None, str(MOST_E4), 4) == str(
        expected("percentage", 999_999, None, MOST_E4, 4)
    )
    assert discount_of("fixed", str(MOST_E4), None, "10000", 2) == "10000"


def test_a_book_without_discount_takes_nothing_off(discount_of) -> None:
    """No kind, no discount; nothing off nothing."""
    assert discount_of(None, None, None, "123400", 2) == "0"
    assert discount_of("percentage", "1000000", None, "0", 2) == "0"


@pytest.mark.parametrize("digits", [0, 2, 3, 4])
def test_amounts_come_back_as_they_went(digits: int) -> None:
    """An amount becomes an integer of e4 and the same text again, at its currency's digits."""
    pick = random.Random(2)
    edges = [0, 1, 9, 10, 10**digits, 10 ** (11 + digits) - 1]
    for scaled in [*edges, *(pick.randrange(10 ** pick.randrange(1, 12 + digits)) for _ in range(3000))]:
        amount = Decimal(scaled).scaleb(-digits)
        e4 = to_e4("x", amount, digits)
        assert e4 == int(amount * 10_000)
        assert from_e4(e4, digits) == f"{amount:.{digits}f}"


@pytest.mark.parametrize(
    ("text", "digits", "e4"),
    [
        ("25.5", 2, 255_000), ("25.5000000", 2, 255_000), ("1E+2", 0, 1_000_000), ("100.00", 0, 1_000_000),
        ("0", 0, 0), ("-0", 2, 0), ("0.000000000", 2, 0), ("0E-30", 2, 0), ("0E+30", 2, 0),
        ("99999999999.9999", 4, MOST_E4), ("0.0001", 4, 1), ("2.5" + "0" * 60, 2, 25_000),
    ],
)  # fmt: skip
def test_amounts_that_are_taken(text: str, digits: int, e4: int) -> None:
    """Trailing zeros aside, what the currency has digits for, from 0 to just below 10¹¹."""
    assert to_e4("x", Decimal(text), digits) == e4


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("-0.01", 2), ("100000000000", 2), ("1E+11", 0), ("1E+999999", 4), ("0.001", 2), ("0.5", 0), ("1.00001", 4),
        ("1E-999999", 4), ("0.00001", 4), ("1." + "0" * 40 + "1", 2), ("99999999999.99991", 4), ("-1E-30", 2),
    ],
)  # fmt: skip
def test_amounts_that_are_out_of_range(text: str, digits: int) -> None:
    """Negative, too large, or with more digits than the currency, however far behind: invalid."""
    with pytest.raises(BadField) as told:
        to_e4("orderValue", Decimal(text), digits)
    assert (told.value.field, told.value.malformed) == ("orderValue", False)


@pytest.mark.parametrize("text", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_what_is_no_amount_is_malformed(text: str) -> None:
    """Decimal's other values are no money."""
    with pytest.raises(BadField) as told:
        to_e4("x", Decimal(text))
    assert told.value.malformed


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
