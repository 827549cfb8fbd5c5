"""The check of histories knows what can be explained and what can't."""

import math
import random
from itertools import pairwise

import pytest

from loadtests.linear import Operation, is_linearizable
from loadtests.things import Coupon, Limit, step_coupon, step_limit

_RACE = [
    Operation(0.0, 3.0, "redeem", ("r1", "ann", "-", "")),
    Operation(1.0, 2.0, "redeem", ("r2", "bob", "-", ""), "coupon_redeemed"),
]


def _then(*operations: Operation) -> list[Operation]:
    return [one._replace(asked=2.0 * at, answered=2.0 * at + 1) for at, one in enumerate(operations)]


def _redeem(redemption: str, outcome: str = "ok", user: str = "ann", token: str = "") -> Operation:
    return Operation(0, 0, "redeem", (redemption, user, "-", token), outcome)


def _rollback(redemption: str, outcome: str = "ok", *, restore: bool = True) -> Operation:
    return Operation(0, 0, "rollback", (redemption, restore), outcome)


_LOCK = Operation(0, 0, "lock", ("t1", "bob", "-"))
_UNLOCK = Operation(0, 0, "unlock", ("t1",))
_OFF = Operation(0, 0, "off")
_MAYBE = Operation(0, math.inf, "redeem", ("r0", "eve", "-", ""), certain=False)


@pytest.mark.parametrize(
    ("history", "explained"),
    [
        (_RACE, True),
        ([_RACE[0], _RACE[1]._replace(asked=4.0, answered=5.0)], True),
        ([_RACE[0]._replace(asked=4.0, answered=5.0), _RACE[1]], False),
        (_then(_redeem("r1"), _redeem("r2")), False),
        (_then(_redeem("r1"), _rollback("r1"), _redeem("r2")), True),
        (_then(_redeem("r1"), _rollback("r1", restore=False), _redeem("r2")), False),
        (_then(_redeem("r1"), _rollback("r1"), _rollback("r1")), False),
        (_then(_redeem("r1"), _rollback("r1"), _rollback("r1", "already_rolled_back")), True),
        (_then(_rollback("r1")), False),
        (_then(_LOCK, _redeem("r1")), False),
        (_then(_LOCK, _redeem("r1", "coupon_locked")), True),
        (_then(_LOCK, _UNLOCK, _redeem("r1")), True),
        (
            [
                _LOCK._replace(answered=2),
                _UNLOCK._replace(asked=1, answered=3),
                _redeem("r1")._replace(asked=4, answered=5),
            ],
            True,
        ),
        (_then(_LOCK, _redeem("r1", user="bob", token="t1")), True),
        (_then(_LOCK, _UNLOCK, _redeem("r1", user="bob", token="t1")), False),
        (_then(_OFF, _redeem("r1")), False),
        (_then(_redeem("r1", "coupon_redeemed")), False),
        ([_MAYBE, *_then(_redeem("r1", "coupon_redeemed"))], True),
        ([_MAYBE, *_then(_redeem("r1"), _redeem("r2"))], False),
        ([_MAYBE, *_then(_redeem("r1"))], True),
        ([Operation(0, math.inf, "forget", ("r1",), certain=False), *_then(_redeem("r1"), _redeem("r2"))], True),
        (_then(_redeem("r1"), Operation(0, 0, "look", outcome="available")), False),
        (_then(_LOCK, Operation(0, 0, "look", outcome="locked")), True),
        (_then(Operation(0, 0, "assign", ("ann",)), Operation(0, 0, "assign", ("bob",))), False),
        (_then(Operation(0, 0, "assign", ("ann",)), _redeem("r1", user="bob")), False),
    ],
)
def test_a_coupon(history: list[Operation], explained: bool) -> None:
    """What one use can explain, in an order between requests and answers, is explained; nothing else is."""
    assert is_linearizable(history, Coupon(1), step_coupon) == explained


@pytest.mark.parametrize("seed", range(20))
def test_what_did_happen_is_explained_and_one_more_is_not(seed: int) -> None:
    """Sixty requests for five uses have an order; if a sixth got one, none explains it."""
    dice = random.Random(seed)
    history = []
    for number, at in enumerate(sorted(dice.uniform(0, 10) for _ in range(60))):
        outcome = "ok" if number < 5 else "out_of_stock"
        asked, answered = at - dice.uniform(0, 2), at + dice.uniform(0, 2)
        history.append(Operation(asked, answered, "take", (f"r{number}",), outcome))
    assert is_linearizable(history, Limit(5), step_limit)
    early = Operation(-9, -8, "take", ("r",), "out_of_stock")
    assert not is_linearizable([early, *history], Limit(5), step_limit)
    history[5] = history[5]._replace(outcome="ok")
    assert not is_linearizable(history, Limit(5), step_limit)


def test_a_long_history_takes_no_long_search() -> None:
    """Two thousand looks at a coupon that is used once, among them its redeeming."""
    looks = [Operation(at, at + 0.5, "look", outcome="available" if at < 1000 else "redeemed") for at in range(2000)]
    history = [*looks, Operation(999.6, 999.9, "redeem", ("r1", "ann", "-", ""))]
    assert all(one.asked < other.asked for one, other in pairwise(looks))
    assert is_linearizable(history, Coupon(1), step_coupon)
