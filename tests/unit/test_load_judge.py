"""What the check after a load finds: each rule's breach, planted into a load in which everything is right."""

import sqlite3
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from loadtests.judge import differences
from loadtests.ledger import Entry, fill, insert
from loadtests.plan import BOOK_USES, CODE_USES, HOLD_S, STOCK, USER_USES
from loadtests.rules import RULES, TABLES, VIEWS


class World:
    """A small load in which everything is right, and what the service says of it."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.redemptions: list[list[Any]] = []
        self.codes: list[list[Any]] = []
        self.counts: list[tuple[str, str, int, int]] = [("sale", "redemptions", 1, 1)]
        self.drift: list[tuple[str, int]] = [("missing", 0)]
        self.redeem("sale", "SALE-1", "ann", "o-1", key="k-1")
        self.entries.append(msgspec.structs.replace(self.entries[0], replayed=True))
        for number in range(CODE_USES):
            self.redeem("shared", "SHARED", f"u-{number}", f"o-s{number}")
        self.refuse("redeem", "shared", "SHARED", "coupon_exhausted")
        for number in range(BOOK_USES):
            self.redeem("total", f"TOTAL-{number}", f"u-{number}", f"o-t{number}")
        self.refuse("redeem", "total", "TOTAL-9", "out_of_stock")
        for number in range(USER_USES):
            self.redeem("greedy", f"GREEDY-{number}", "bob", f"o-g{number}")
        self.refuse("redeem", "greedy", "GREEDY-9", "user_redemption_limit", user="bob")
        for number in range(STOCK):
            self.assign("stock", f"STOCK-{number}", f"v-{number}")
        self.refuse("assign", "stock", "", "out_of_stock")
        for number in range(2):
            times = {"until_ms": 10_000 + number * HOLD_MS, "sent_ms": 8_001 + number * HOLD_MS, "took_ms": 5.0}
            self.answer("lock", "held", "HELD", f"w-{number}", got="HELD", **times)
            self.answer("lock", "held", "HELD", "x", status=409, refusal="coupon_locked", sent_ms=9_900)
        self.answer("checkout", "sale", "", "cat", order="o-c", gift="GIFT-1")
        self.codes.append(["gifts", "GIFT-1", "cat", "assigned", 0])

    def answer(self, op: str, book: str, code: str, user: str, order: str = "", key: str = "", **told: Any) -> Entry:
        """An answer, 201 where it isn't said otherwise."""
        digest = f"d-{op}-{len(self.entries)}"
        entry = Entry("Buyer", op, key, user, order, book, code, **({"status": 201, "digest": digest} | told))
        self.entries.append(entry)
        return entry

    def refuse(self, op: str, book: str, code: str, refusal: str, user: str = "zoe", status: int = 409) -> Entry:
        """A refusal."""
        return self.answer(op, book, code, user, status=status, refusal=refusal)

    def redeem(self, book: str, code: str, user: str, order: str, **told: Any) -> Entry:
        """A redemption that was answered and is recorded."""
        name = f"r-{len(self.redemptions)}"
        self.redemptions.append([book, name, code, user, order, "45.00", 50_000, 0])
        return self.answer("redeem", book, code, user, order, redemption_id=name, got=code, amount="45.00", **told)

    def assign(self, book: str, code: str, user: str) -> Entry:
        """An assignment that was answered and is recorded."""
        self.codes.append([book, code, user, "assigned", 0])
        return self.answer("assign", book, "", user, got=code)

    def judged(self) -> dict[str, str]:
        """What differs, by its rule."""
        database = sqlite3.connect(":memory:")
        database.executescript(TABLES)
        fill(database, self.entries)
        insert(database, "redemptions", 8, map(tuple, self.redemptions))
        insert(database, "codes", 5, map(tuple, self.codes))
        insert(database, "counts", 4, self.counts)
        insert(database, "drift", 2, self.drift)
        insert(database, "workspace", 1, [(1,)])
        insert(database, "books", 6, BOOKS)
        database.executescript(VIEWS)
        return {found.rule: str(found) for found in differences(database)}


HOLD_MS = HOLD_S * 1000
BOOKS = [
    ("sale", "sale", 1, None, None, None),
    ("gifts", "gifts", 1, None, None, None),
    ("held", "held", 1, None, None, None),
    ("shared", "shared", CODE_USES, None, None, None),
    ("greedy", "greedy", 1, USER_USES, None, None),
    ("total", "total", 1, None, BOOK_USES, None),
    ("stock", "stock", 1, None, None, STOCK),
]
PLANTS: list[tuple[str, Callable[[World], Any], str]] = [
    ("answered as it may not be", lambda w: w.answer("lock", "", "G", "x", wanted=False), "Buyer lock 201"),
    ("a server's error", lambda w: w.refuse("redeem", "sale", "S", "internal", status=500), "500 internal"),
    (
        "told to come again, and not when",
        lambda w: w.answer("lock", "sale", "S", "x", status=503, refusal="behind"),
        "503 behind Retry-After ''",
    ),
    (
        "one Idempotency-Key, several answers",
        lambda w: w.answer("redeem", "sale", "SALE-1", "ann", "o-1", key="k-1", redemption_id="r-0", amount="45.00"),
        "redeem k-1 201 2",
    ),
    ("answered, and not recorded", lambda w: w.redemptions.pop(0), "redemption r-0 SALE-1"),
    ("answered, and not recorded", lambda w: w.codes.pop(0), "assignment STOCK-0 v-0"),
    ("answered, and not recorded", lambda w: w.codes[-1].__setitem__(2, "dan"), "assignment GIFT-1 cat"),
    ("recorded otherwise than answered", lambda w: w.redemptions[0].__setitem__(5, "44.99"), "r-0 sale SALE-1"),
    ("recorded otherwise than answered", lambda w: w.redemptions[0].__setitem__(7, 1), "r-0 sale SALE-1"),
    ("recorded twice", lambda w: w.redemptions.append(w.redemptions[0]), "r-0 2"),
    (
        "recorded, and answered to nobody",
        lambda w: w.redemptions.append(["sale", "r-x", "SALE-9", "eve", "o-x", "1.00", 0, 0]),
        "redemption r-x SALE-9 eve",
    ),
    (
        "recorded, and answered to nobody",
        lambda w: w.codes.append(["sale", "SALE-8", "eve", "assigned", 0]),
        "assignment SALE-8 eve",
    ),
    ("a code over its limit", lambda w: w.redeem("shared", "SHARED", "u-9", "o-9"), f"SHARED {CODE_USES + 1} of"),
    ("a code over its limit", lambda w: w.redeem("sale", "SALE-1", "u-9", "o-9"), "SALE-1 2 of 1"),
    ("a user over the book's limit", lambda w: w.redeem("greedy", "GREEDY-7", "bob", "o-9"), "greedy bob 3 of 2"),
    ("a book over its total", lambda w: w.redeem("total", "TOTAL-7", "u-9", "o-9"), "total 4 of 3"),
    ("more given than there is", lambda w: w.assign("stock", "STOCK-9", "v-9"), "stock 4 of 3"),
    ("more given than there is", lambda w: w.assign("gifts", "GIFT-1", "dan"), "GIFT-1 2 of 1"),
    ("an order with too many coupons", lambda w: w.redeem("sale", "SALE-2", "ann", "o-1"), "o-1 2 of 1"),
    ("said to be used up, and was not", lambda w: unused(w, "r-1"), "code SHARED 3"),
    ("said to be used up, and was not", lambda w: unused(w, f"r-{CODE_USES + 1}"), "book total 3"),
    ("said to be used up, and was not", lambda w: unused(w, w.redemptions[-1][1]), "user bob 2"),
    ("said to be used up, and was not", lambda w: w.codes[0].__setitem__(2, ""), "stock stock 3"),
    (
        "said to be used up, and was not",
        lambda w: w.refuse("redeem", "sale", "SALE-5", "coupon_redeemed"),
        "code SALE-5 1",
    ),
    (
        "held by two at a time",
        lambda w: w.answer("lock", "held", "HELD", "x", got="HELD", until_ms=9_999),
        "HELD x until 9999 and another from 8000",
    ),
    (
        "held by two at a time",
        lambda w: w.answer("lock", "held", "HELD", "x", got="HELD", until_ms=14_000 - 1),
        "HELD w-1 until 12000 and another from 11999",
    ),
    (
        "said to be used up, and was not",
        lambda w: w.refuse("redeem", "sale", "SALE-5", "out_of_stock"),
        "book sale without a total",
    ),
    (
        "said to be locked, and nobody held it",
        lambda w: w.answer("lock", "held", "HELD", "x", status=409, refusal="coupon_locked", sent_ms=12_100),
        "HELD x 12100",
    ),
    (
        "said to be locked, and nobody held it",
        lambda w: w.answer("lock", "held", "HELD", "x", status=409, refusal="coupon_locked", sent_ms=7_900),
        "HELD x 7900",
    ),
    (
        "Redis counts otherwise than Postgres",
        lambda w: w.counts.append(("sale", "users", 3, 4)),
        "sale users 3 and 4",
    ),
    ("the service's own comparison finds drift", lambda w: w.drift.append(("extra", 2)), "extra 2"),
    ("nothing was bought", lambda w: (w.entries.clear(), w.redemptions.clear(), w.codes.clear()), "no answer has"),
]


def unused(world: World, name: str) -> None:
    """As if a redemption had never been."""
    world.redemptions = [one for one in world.redemptions if one[1] != name]
    world.entries = [one for one in world.entries if one.redemption_id != name]


def test_nothing_is_found_where_everything_is_right() -> None:
    """Refusals, repeats, gifts and holds that follow each other break no rule."""
    assert World().judged() == {}


@pytest.mark.parametrize(("rule", "plant", "named"), PLANTS, ids=[f"{n} {plant[0]}" for n, plant in enumerate(PLANTS)])
def test_a_breach_is_found_and_named(rule: str, plant: Callable[[World], Any], named: str) -> None:
    """What is planted is found by its rule, which says of what it is."""
    world = World()
    plant(world)
    found = world.judged()
    assert named in found[rule], found


def test_every_rule_has_a_plant() -> None:
    """No rule is never seen to find anything."""
    assert {rule for rule, _ in RULES} == {rule for rule, _, _ in PLANTS}


def test_what_was_never_answered_may_be_recorded_or_not() -> None:
    """A request whose outcome nobody knows excuses its own redemption or assignment, and no other."""
    world = World()
    world.redemptions.append(["sale", "r-x", "SALE-9", "eve", "o-x", "1.00", 0, 0])
    world.codes.append(["sale", "SALE-8", "eve", "assigned", 0])
    world.answer("redeem", "sale", "SALE-9", "eve", "o-x", status=0)
    assert world.judged() == {}
    world.redemptions.append(["sale", "r-y", "SALE-7", "fay", "o-y", "1.00", 0, 0])
    assert list(world.judged()) == ["recorded, and answered to nobody"]
