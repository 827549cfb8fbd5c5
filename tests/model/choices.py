"""What the machine draws from: few users, orders and codes, so that they meet; the plainest of each first, since
hypothesis shrinks towards it. Every rule of a book is drawn by itself, so that all combinations come up."""

from decimal import Decimal
from itertools import product
from typing import Any

from hypothesis import strategies as st

from service.engine.domain.configuration import TierRow
from service.engine.domain.limits import BookLimits
from tests.model.limits import ADDRESSES, KEYS

Draw = st.SearchStrategy[Any]
_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000

USERS = ("ann", "bob", "-")
ORDERS = ("A-1", "A-2", "A-3", "-")
BOOKS = (1, 2, 3)
FIRST_CODES = tuple(f"BOOK-{book}-{number}" for book in BOOKS for number in (1, 2, 3))
LATER_CODES = tuple(f"CODE-{number}" for number in range(1, 7))

users: Draw = st.sampled_from(USERS)
some_orders: Draw = st.sampled_from(ORDERS)
orders: Draw = st.sampled_from((None, *ORDERS))
codes: Draw = st.sampled_from(FIRST_CODES * 4 + LATER_CODES)
some_codes: Draw = st.sampled_from((None, *FIRST_CODES))
later_codes: Draw = st.sampled_from(LATER_CODES)
books: Draw = st.sampled_from(BOOKS)
any_books: Draw = st.sampled_from((*BOOKS * 5, None))
gift_books: Draw = st.sampled_from((None, None, *BOOKS))
recent: Draw = st.sampled_from((0, 0, 0, 1, 1, 2, 3, 5, 8))
"""Which lock, redemption or keyed request, counted back from the latest."""
recent_or_none: Draw = st.sampled_from((0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 5, 5, 8, 8, None))
"""As above; None is one that never was."""
keyed: Draw = st.sampled_from((False,) * 6 + (True,))
"""Whether a request has an Idempotency-Key."""
lock_seconds: Draw = st.sampled_from((None, None, 1, 5, 60, 4000))
restores: Draw = st.sampled_from((None, True, False))

_ITEMS: tuple[list[tuple[str, int, str]], ...] = (
    [],
    [("tea", 3, "3.50")],
    [("tea", 2, "12.00"), ("tea", 4, "1.95"), ("cup", 5, "0")],
    [("cup", 1, "3"), ("tea", 5, "12"), ("cup", 2, "100")],
    [("tea", 3, "1.955")],
)
_VALUES = (None, "49.95", "20", "9.99", "20.05", "99.99", "100", "33.335", "5000")
_CURRENCIES = (None, None, "USD", "EUR", "JPY", "KWD")


def _basket(value: str | None, currency: str | None, items: list[tuple[str, int, str]]) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if value is not None:
        body["orderValue"] = Decimal(value)
    if currency is not None:
        body["currency"] = currency
    if items:
        body["items"] = [{"sku": sku, "quantity": quantity, "unitPrice": price} for sku, quantity, price in items]
    return body


_PLAIN = (
    ("20.05", None, []),
    ("49.95", None, [("tea", 3, "3.50")]),
    ("100", "USD", [("tea", 2, "12"), ("tea", 4, "1.95")]),
    ("9.99", None, []),
    ("9.99", None, [("cup", 3, "3")]),
    (None, None, []),
    (None, None, []),
)
baskets: Draw = st.sampled_from([_basket(*parts) for parts in (*_PLAIN * 50, *product(_VALUES, _CURRENCIES, _ITEMS))])
"""The order's part of a redeem's body: half of them everyday ones, half anything."""
EVERYDAY = _basket(*_PLAIN[0])
amounts: Draw = st.sampled_from([None] * 8 + [Decimal(text) for text in ("5", "0.5", "12.5", "3", "100", "5.005", "0")])
"""The most that an order takes of a card."""
values: Draw = st.sampled_from([Decimal(text) for text in ("20", "5", "9.99", "0.01", "33", "500", "0")])
ways: Draw = st.sampled_from(("lock", "lock", "redeem", "redeem held", "validate"))
credit_amounts: Draw = st.sampled_from(
    [Decimal(text) for text in ("3", "20", "0.1", "100", "1.005", "0", "99999999900")] + [None]
)
"""None closes the card."""
lock_baskets: Draw = st.one_of(st.just({}), baskets)
"""Of a lock; of a redeem under it `{}`, and the same basket, come up as well."""

_LEAST = (
    {},
    {"min_order_value_e4": 200_000},
    {"max_amount_e4": 70_000, "min_order_value_e4": 150_000},
    {"max_amount_e4": 30_050, "min_order_value_e4": 1},
)
_CURRENCY_OF = (
    {},
    {},
    {"currency": "EUR", "digits": 2},
    {"currency": "JPY", "digits": 0},
    {"currency": "KWD", "digits": 3},
)
_TIERS = (
    TierRow(from_e4=200_500, type="percentage", value_e4=50_000),
    TierRow(from_e4=499_500, type="fixed", value_e4=77_700),
    TierRow(from_e4=500_000, type="percentage", value_e4=333_333),
)
_TERMS: tuple[dict[str, Any], ...] = (
    {"type": "percentage", "value_e4": 333_300},
    {"type": "percentage", "value_e4": 500_000},
    {"type": "percentage", "value_e4": 1_000_000},
    {"type": "fixed", "value_e4": 250_000},
    {"type": "tiered", "tiers": _TIERS},
    {"type": "buyXGetY", "buy": 2, "get": 1},
    {"type": "buyXGetY", "buy": 1, "get": 1},
)
DISCOUNTS = [{**terms, **least, **currency} for terms, least, currency in product(_TERMS, _LEAST, _CURRENCY_OF)]
CARDS: tuple[dict[str, Any], ...] = tuple(
    {"type": "balance", "value_e4": int(value) * 10_000, **least, **currency}
    for value, least, currency in (
        ("50", {}, {}),
        ("20", {}, {}),
        ("30", {}, {"currency": "JPY", "digits": 0}),
        ("120", {"min_order_value_e4": 100_000}, {}),
        ("7", {}, {"currency": "KWD", "digits": 3}),
    )
)
"""Discounts of books of cards."""
cards: Draw = st.sampled_from((None, *CARDS))
USUAL: dict[str, Any] = {
    "require_assignment": False, "require_lock": False, "starts": None, "ends": None, "max_redemptions_per_user": None,
    "max_redemptions": None,
}  # fmt: skip
card_amounts: Draw = st.sampled_from((None, 1_0000, 25_0000, 60_0000))
"""A card's own, in 10⁻⁴ units."""
_PERIODS = ("lifetime", "day", "month")
_BUDGETS = [(most, per, period) for most, per, period in product((8, 25, 60), ("book", "user"), _PERIODS)]
_USE_LIMITS = [(uses, per, period) for uses, per, period in product((1, 2, 4), ("book", "user"), _PERIODS[1:])]
bounds: Draw = st.fixed_dictionaries(
    {
        "budgets": st.lists(st.sampled_from(_BUDGETS), max_size=3),
        "use_limits": st.one_of(st.just([]), st.lists(st.sampled_from(_USE_LIMITS), max_size=2)),
    }
)
"""A book's budgets and limits of uses."""
NO_BOUNDS: dict[str, Any] = {"budgets": [], "use_limits": []}
steps: Draw = st.sampled_from((2, 2, 2, 1, 0))
"""Of the worker that counts what was redeemed before a book had budgets, which takes two."""
some_bounds: Draw = st.one_of(st.just(NO_BOUNDS), bounds)
ZONES = ("UTC", "America/New_York", "Asia/Kolkata", "America/Havana", "Australia/Lord_Howe")
zones: Draw = st.sampled_from(("UTC", *ZONES))
starts: Draw = st.sampled_from((0, 0, 57 * _DAY_MS + 20 * _HOUR_MS, 295 * _DAY_MS + 18 * _HOUR_MS, 16 * _DAY_MS))
"""How long after the still clock's start a walk begins: before changes of an offset, and before the end of a month."""
_LIMITS = (
    BookLimits(locks_per_user=1),
    BookLimits(locks_per_user=2),
    BookLimits(locked_percent=1),
    BookLimits(locked_percent=40),
    BookLimits(locked_percent=70),
    BookLimits(locks_per_user=2, locked_percent=50),
    BookLimits(misses_per_minute=1),
    BookLimits(misses_per_minute=2, locks_per_user=1),
)
_WINDOW = (0, 1, 5_000, 100_000)
"""Ms from now on."""

rules: Draw = st.fixed_dictionaries(
    {
        "max_redemptions_per_code": st.sampled_from((1, 1, 2, 3, None)),
        "max_redemptions_per_user": st.sampled_from((None, None, 1, 2)),
        "max_redemptions": st.sampled_from((None, None, 1, 2, 4)),
        "max_codes_per_user": st.sampled_from((None, None, 1, 2)),
        "require_assignment": st.sampled_from((False,) * 5 + (True,)),
        "require_lock": st.sampled_from((False,) * 5 + (True,)),
        "public_reasons": st.sampled_from((False, True)),
        "lives": st.sampled_from(((300, 3600), (30, 60), (1, 1), (50_000, 100_000))),
        "starts": st.sampled_from((None,) * 8 + (0, 5_000)),
        "ends": st.sampled_from((None,) * 4 + (5_000, 100_000, 10_000_000)),
        "low_stock_threshold": st.sampled_from((None, None, 1, 2)),
        "gift": st.sampled_from((None, None, *BOOKS)),
        "limits": st.sampled_from((None,) * len(_LIMITS) + _LIMITS),
        "discount": st.sampled_from((None,) * len(DISCOUNTS) + tuple(DISCOUNTS) + CARDS * 10),
        "bounds": some_bounds,
        "time_zone": zones,
    }
)
"""A new book's: lives are lockSeconds and maxLockSeconds, starts and ends its window, gift another book's number."""

own_rules: Draw = st.sampled_from(
    tuple(
        {"owner": owner, "own_max": own_max, "ends": ends}
        for owner, own_max, ends in product((None, *USERS), (None, 1, 2, 4), (None, None, 5_000, 5_000_000))
    )
)
"""What an uploaded code says of its own."""

_plain_changes: Draw = st.sampled_from(
    [("status", word) for word in ("active",) * 5 + ("inactive",) * 6 + ("archived",)]
    + [("starts", ms) for ms in (None,) * 2 + _WINDOW]
    + [("ends", ms) for ms in (None,) * 5 + _WINDOW]
    + [("max_codes_per_user", most) for most in (None, 1, 2, 3)]
    + [("low_stock_threshold", most) for most in (None, 1, 2, 3)]
    + [("gift", book) for book in (None, *BOOKS)]
    + [("require_assignment", word) for word in (False, True)]
    + [("require_lock", word) for word in (False, True)]
    + [("public_reasons", word) for word in (False, True)]
    + [("end_locks", True)] * 3
    + [("lives", lives) for lives in ((300, 3600), (30, 60), (1, 1))]
    + [("time_zone", zone) for zone in ZONES[:2]]
    + [("limits", limits) for limits in (None, *_LIMITS)]
    + [("discount", discount) for discount in (None, *DISCOUNTS[:: len(DISCOUNTS) // 11], *CARDS)]
)
book_changes: Draw = st.one_of(*[_plain_changes] * 4, st.tuples(st.just("bounds"), some_bounds))
"""A PATCH of a book, but for the limits of its uses."""
limit_changes: Draw = st.sampled_from(
    [("max_redemptions", most) for most in (None, 1, 2, 4, "spent", "spent")]
    + [("max_redemptions_per_user", most) for most in (None, 1, 2, "spent", "spent")]
)
"""`spent` is what is used of it already."""
uses_a_code: Draw = st.sampled_from((1, 2, 3, None))
coupon_changes: Draw = st.sampled_from(
    [("active", True)] * 4 + [("active", False)] * 2 + [("ends", ms) for ms in (None,) * 5 + _WINDOW]
)
workspace_changes: Draw = st.sampled_from(
    [("coupons_per_order", most) for most in (1, 2, 3)]
    + [("max_coupons", most) for most in (None, 1, 1, 2, 3)]
    + [("gift", book) for book in (None, *BOOKS)]
    + [("currency", currency) for currency in ("USD", "USD", "EUR", "JPY", "KWD")]
    + [("limits", limits) for limits in (BookLimits(), BookLimits(), *_LIMITS[::3])]
)
live_locks: Draw = st.sampled_from((None, None, None, 1, 2, 4))
credentials: Draw = st.sampled_from(KEYS)
addresses: Draw = st.sampled_from(ADDRESSES)
key_changes: Draw = st.sampled_from(
    [("live_locks", most) for most in (None, 1, 1, 2, 3)]
    + [("misses_per_minute", most) for most in (None, None, 1, 3)]
    + [("address_misses_per_minute", most) for most in (None, None, 1, 3)]
    + [("requests_per_minute", most) for most in (None, None, 5, 10)]
)
caps: Draw = st.sampled_from((None, 1, 2, 4, "held", "held"))
"""`held` is what the user holds already."""

waits: Draw = st.sampled_from(
    ("next", "before next", 1, 999, 5_000, 31_000, 61_000, 3_600_000) * 3 + ("period", "before period")
)
"""Ms; or to when something begins or ends, or a book's next day or month begins, or the millisecond before that."""
readings: Draw = st.sampled_from(("validate", "validate", "validate_public", "coupon"))
flags: Draw = st.sampled_from((False, False, True))
claims: Draw = st.sampled_from(
    [
        frozenset(words.split())
        for words in ("token user order", "user order", "token user", "token order", "user", "token")
    ]
)
"""Which of a lock's own words a redeem of it has; the others are anybody's."""
