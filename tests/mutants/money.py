"""Discounts, their rounding, and amounts."""

from tests.mutants.mutant import Mutant

_MONEY = "lua/includes/money.lua"
_TESTS = "tests/unit/test_money.py"
_DISCOUNTS = "tests/lua/test_discounts.py"
_REDEEM = "tests/lua/test_redeem.py"
_BOOKS = "tests/unit/test_books.py"

MUTANTS = (
    Mutant("rounding is half-even, not half-up", _MONEY, "(twice == full and q % 2 == 1)", "twice == full", _TESTS),
    Mutant(
        "rounding is half-even, not half-down",
        _MONEY,
        "twice > full or (twice == full and q % 2 == 1)",
        "twice > full",
        _TESTS,
    ),
    Mutant(
        "rounding is no cutting",
        _MONEY,
        "if twice > full or (twice == full and q % 2 == 1) then q = q + 1 end\n",
        "",
        _TESTS,
    ),
    Mutant("parts of the smallest unit are reckoned with", _MONEY, "* 1000000 + part) * 2", "* 1000000) * 2", _TESTS),
    Mutant(
        "rounding is at the currency's digits",
        _MONEY,
        "round_half_even(amount, part, UNIT[digits])",
        "round_half_even(amount, part, UNIT['2'])",
        _TESTS,
    ),
    Mutant("a discount is at most maxAmount", _MONEY, "amount >= book.cap then", "amount > 2 * book.cap then", _TESTS),
    Mutant(
        "a discount never exceeds the order's value",
        _MONEY,
        "  if amount > value then amount = value end\n",
        "",
        _TESTS,
    ),
    Mutant("a tier begins with its `from`", _MONEY, "tonumber(from) > value", "tonumber(from) >= value", _TESTS),
    Mutant(
        "the last tier that is reached counts",
        _MONEY,
        "    kind, terms = of, its\n",
        "    kind, terms = kind or of, terms or its\n",
        _TESTS,
    ),
    Mutant(
        "for every buy + get units get are free, whole groups alone",
        _MONEY,
        "math.floor(units / each) * get",
        "math.ceil(units / each) * get",
        _TESTS,
    ),
    Mutant(
        "a group is buy and get together",
        _MONEY,
        "local each, free, sum = buy + get, 0, 0",
        "local each, free, sum = buy + 0, 0, 0",
        _TESTS,
    ),
    Mutant(
        "the cheapest of a sku's units are free",
        "service/operations/order_fields.py",
        "for price_e4 in sorted(counts):",
        "for price_e4 in sorted(counts, reverse=True):",
        _TESTS,
    ),
    Mutant(
        "groups are made within each sku",
        "service/operations/order_fields.py",
        "units = skus.setdefault(item.sku, {})",
        'units = skus.setdefault("", {})',
        _TESTS,
    ),
    Mutant(
        "a percentage is of 100", "service/domain/discounts.py", "value_e4 > 1_000_000", "value_e4 > 1_000_001", _BOOKS
    ),
    Mutant(
        "a discount is more than 0",
        "service/domain/discounts.py",
        '    if value_e4 == 0:\n        raise BadField(field, "must be more than 0")\n',
        "",
        _BOOKS,
    ),
    Mutant(
        "tiers ascend",
        "service/domain/discounts.py",
        "if rows and from_e4 <= rows[-1].from_e4:",
        "if rows and from_e4 < rows[-1].from_e4:",
        _BOOKS,
    ),
    Mutant(
        "a discount's amounts have no more digits than its currency",
        "service/domain/discounts.py",
        "if amount is not None and amount % 10 ** (4 - digits):",
        "if amount is not None and amount % 10 ** (3 - digits):",
        _BOOKS,
    ),
    Mutant(
        "the smallest amounts of a tier count too",
        "service/domain/discounts.py",
        '        amounts[f"discount.tiers[{number}].from"] = tier.from_e4\n',
        "",
        _BOOKS,
    ),
    Mutant("an amount is below 10¹¹", "service/domain/money.py", "if amount >= LIMIT:", "if amount > LIMIT:", _TESTS),
    Mutant(
        "an amount is 0 or more",
        "service/domain/money.py",
        '    if amount.is_signed() and amount != 0:\n        raise BadField(field, "must be 0 or more")\n',
        "",
        _TESTS,
    ),
    Mutant(
        "more digits than the currency has are `invalid`, not cut",
        "service/domain/money.py",
        "    if scaled != whole:\n",
        "    if scaled < whole:\n",
        _TESTS,
    ),
    Mutant("digits are ISO 4217's", "service/domain/money.py", '    3: "BHD', '    1: "BHD', _TESTS),
    Mutant(
        "answers have the currency's digits",
        "service/domain/money.py",
        "[: digits - 4 or None]",
        "[: -2]",
        _TESTS,
    ),
    Mutant(
        "without a named currency an amount has the discount's or the workspace's digits",
        "lua/includes/redeeming.lua",
        "  if not r.currency and tonumber(a.digits) > tonumber(r.digits) then return { OUT.invalid } end\n",
        "",
        f"{_REDEEM} {_DISCOUNTS}",
    ),
    Mutant(
        "the currency is the discount's, else the workspace's",
        "lua/includes/redeeming.lua",
        "a.currency = r.currency or book.currency or r.workspace.currency",
        "a.currency = r.currency or r.workspace.currency or book.currency",
        f"{_REDEEM} {_DISCOUNTS}",
    ),
    Mutant(
        "unit prices have the currency's digits",
        "service/operations/order_fields.py",
        "digits = max(digits, digits_of(price_e4))",
        "digits = max(digits, 0)",
        _DISCOUNTS,
    ),
    Mutant(
        "below the first tier it is `order_value_too_low`",
        "service/hot/projection.py",
        "            least = max(least or 0, discount.tiers[0].from_e4)\n",
        "            least = least or 0\n",
        _DISCOUNTS,
    ),
)
