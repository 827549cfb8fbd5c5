"""Any amounts, of one card or under one book's budgets: the model says what each request comes to, to the unit."""

import random
from collections import Counter
from collections.abc import Callable
from decimal import ROUND_DOWN, Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.model import choices as pick
from tests.model.databases import databases_on
from tests.model.machine import Machine

STEPS = 250
CODE = pick.FIRST_CODES[0]
CARDS = [("USD", 2, Decimal(7)), ("JPY", 0, Decimal(50)), ("KWD", 3, Decimal(50)), ("USD", 2, Decimal(10**11 - 1000))]
"""Currency, its digits, and what the card is issued with."""
BUDGETS = [(Decimal("12.5"), "user", "day"), (Decimal(40), "book", "month"), (Decimal(90), "book", "lifetime")]
ASKS = ("redeem", "redeem", "lock", "lock", "take", "take", "unlock", "rollback", "rollback", "wait")


class Walk:
    """Random requests about one code of a book with these rules."""

    def __init__(self, machine: Machine, seed: int, unit: Decimal, waits: list[int], **rules: Any) -> None:
        self.machine, self.random, self.unit, self.waits = machine, random.Random(seed), unit, waits
        rules = {"max_redemptions_per_code": None, "lives": (300, 500_000), "gift": None} | rules
        machine.begin(rules, rules, rules, None, None, 0)

    def amount(self, largest: Decimal) -> Decimal:
        return max(self.unit, (largest * self.random.randint(1, 1000) / 700).quantize(self.unit, ROUND_DOWN))

    def step(self, kind: str, number: int, largest: Decimal, *, is_card: bool) -> None:
        machine, nth = self.machine, self.random.randrange(30)
        user, order = self.random.choice(pick.USERS), f"B-{number}"
        if machine.model.tokens and self.random.random() < 0.3:
            *_, user, order = machine.held_lock(nth)
        order_of = {"userId": user, "orderId": order, "orderValue": self.amount(largest)}
        if discount := machine.model.books[1].discount:
            order_of["currency"] = discount.currency
        if is_card and self.random.random() < 0.3:
            order_of["amount"] = self.amount(largest)
        asks: dict[str, Callable[[], None]] = {
            "lock": lambda: machine.ask("lock", CODE, **order_of, lockSeconds=self.random.choice([5, 40, 50_000])),
            "redeem": lambda: machine.ask("redeem", CODE, **order_of),
            "take": lambda: machine.redeem_locked(nth, frozenset({"user", "order"}), user, order, {}, False),
            "unlock": lambda: machine.unlock(nth, False),
            "rollback": lambda: machine.rollback(nth, self.random.choice([True, False]), False),
            "credit": lambda: machine.ask("credit", CODE, amount=self.amount(largest)),
            "close": lambda: machine.ask("close", CODE),
            "wait": lambda: machine.wait(self.random.choice(self.waits)),
        }
        asks[kind]()


@pytest.mark.parametrize("seed", range(4))
def test_amounts_of_a_card(seed: int, tmp_path: Path) -> None:
    """Whatever is asked of a card: each answer, and the balance after it, is that of exact arithmetic."""
    currency, digits, issued = CARDS[seed]
    discount = {"type": "balance", "value_e4": int(issued) * 10_000, "currency": currency, "digits": digits}
    with databases_on(tmp_path) as databases:
        machine = machine_on(databases)
        walk = Walk(machine, seed, Decimal(1).scaleb(-digits), [1_000, 30_000], discount=discount)
        largest = min(issued, Decimal(10**9))
        kinds = [
            *ASKS,
            "credit",
            "credit",
            *["close"] * (issued == largest),
        ]  # the largest card can't be credited again
        for number in range(STEPS):
            walk.step(walk.random.choice(kinds), number, largest, is_card=True)
            machine.ask("coupon", CODE)
        machine.teardown()
    assert min(machine.tally[f"{name} 201"] for name in ("lock", "redeem")) > STEPS // 25, machine.tally


@pytest.mark.parametrize("seed", range(2))
def test_amounts_under_budgets(seed: int, tmp_path: Path) -> None:
    """Redemptions, locks and rollbacks over days: what fits is accepted, what doesn't is refused, to the cent."""
    discount = {"type": "percentage", "value_e4": 500_000, "currency": "USD", "digits": 2}
    bounds = {"budgets": BUDGETS, "use_limits": []}
    with databases_on(tmp_path) as databases:
        machine = machine_on(databases)
        waits = [1, 1_000, 3_600_000, 20_000_000]
        walk = Walk(machine, seed, Decimal("0.01"), waits, discount=discount, bounds=bounds)
        for number in range(STEPS):
            walk.step(walk.random.choice([*ASKS, "wait"]), number, Decimal(9), is_card=False)
        machine.teardown()
    assert machine.tally["redeem 201"] > STEPS // 25 < machine.tally["redeem budget_exhausted"], machine.tally


def machine_on(databases: Any) -> Machine:
    return type("Walked", (Machine,), {"databases": databases, "tally": Counter()})()
