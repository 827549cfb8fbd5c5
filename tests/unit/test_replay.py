"""The outcome that a replay expects, for small files of orders with an outcome computed by hand."""

import json
import sys
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import AsyncMock

import pytest

from service.replay import check, expectation
from service.replay.expectation import Redemption
from service.replay.orders import Order, UnusableFile, group_orders, read_orders
from service.replay.retrying_client import Response

_ITEMS = [{"sku": "85123A", "quantity": 6, "unitPrice": "2.55"}]


def order(value: Any = "40.00", user: Any = "u1", order_id: Any = "1", cancelled: Any = False, **more: Any) -> Any:
    items = more.get("items", _ITEMS)
    return {"orderId": order_id, "userId": user, "cancelled": cancelled, "orderValue": value, "items": items}


ODD_ORDERS = [
    ("201", "201", order("20.00")),
    ("201", "422 order_value_too_low", order("19.99")),
    ("201", "422 order_value_too_low", order("0.00", items=[])),
    ("201", "422 invalid", order("0.00")),
    ("201", "422 order_value_required", order(None)),
    ("201", "422 invalid", order("-20.00")),
    ("201", "422 invalid", order("100000000000")),
    ("201", "422 invalid", order("20.001")),
    ("201", "201", order("20.0100")),
    ("201", "400 malformed", order("twenty")),
    ("201", "400 malformed", order("NaN")),
    ("201", "400 malformed", order(True)),
    ("201", "201", order(25)),
    ("400 malformed", "400 malformed", order(user=None)),
    ("400 malformed", "400 malformed", order("-1", user=None)),
    ("422 invalid", "422 invalid", order(user="a b")),
    ("422 invalid", "422 invalid", order(user="x" * 101)),
    ("201", "201", order(user="x" * 100)),
    ("422 invalid", "422 invalid", order(order_id="1/2")),
    ("422 invalid", "422 invalid", order(order_id="1" * 97)),
    ("201", "201", order(order_id="1" * 96)),
    ("201", "201", order(order_id=None)),
    ("201", "201", order(items=None)),
    ("201", "201", order(items=[])),
    ("201", "400 malformed", order(items="none")),
    ("201", "400 malformed", order(items=[{"sku": "A", "quantity": 1}])),
    ("201", "400 malformed", order(items=[{"sku": "A", "quantity": 1.5, "unitPrice": "1"}])),
    ("201", "422 invalid", order(items=[{"sku": "A", "quantity": 0, "unitPrice": "1"}])),
    ("201", "422 invalid", order(items=[{"sku": "A", "quantity": -2, "unitPrice": "1"}])),
    ("201", "422 invalid", order(items=[{"sku": "A", "quantity": 1_000_001, "unitPrice": "1"}])),
    ("201", "422 invalid", order(items=[{"sku": "A", "quantity": 1, "unitPrice": "-0.01"}])),
    ("201", "201", order("15240.00", items=_ITEMS * 1000)),
    ("201", "422 invalid", order("15239.99", items=_ITEMS * 1000)),
    ("201", "422 invalid", order(items=_ITEMS * 1001)),
    ("201", "413 too_large", order(items=_ITEMS * 1500)),
    ("201", "422 invalid", order(items=[{"sku": "a\nb", "quantity": 1, "unitPrice": "1"}])),
    ("201", "400 malformed", order(items=[{"sku": "\ud800", "quantity": 1, "unitPrice": "1"}])),
    ("201", "422 invalid", order("-1", items=[{"sku": "A", "quantity": 0, "unitPrice": "1"}])),
    ("201", "422 order_value_too_low", order("-0", items=[{"sku": "A", "quantity": 1, "unitPrice": 0}])),
]
"""The answers of lock and redeem, and the order."""


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., list[Order]]:
    """The orders of a file with these lines."""

    def make(*lines: Any) -> list[Order]:
        path = tmp_path / "orders.jsonl"
        text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
        path.write_bytes(text.encode(errors="surrogateescape"))
        return read_orders(path, "RUN")

    return make


@pytest.mark.parametrize(
    ("value", "discount"),
    [
        ("20.00", "3.00"),
        ("20.10", "3.02"),  # 3.015
        ("20.30", "3.04"),  # 3.045
        ("33.10", "4.96"),  # 4.965
        ("33.30", "5.00"),  # 4.995
        ("20.07", "3.01"),  # 3.0105
        ("20.09", "3.01"),  # 3.0135
        ("333.30", "50.00"),  # 49.995
        ("333.29", "49.99"),  # 49.9935
        ("18745.86", "50.00"),
        ("1e2", "15.00"),
    ],
)
def test_discount(value: str, discount: str) -> None:
    """The discount is 15 %, rounded half-even to a penny, and at most 50.00."""
    assert expectation.compute_discount(Decimal(value)) == Decimal(discount)


@pytest.mark.parametrize(("lock", "redeem", "line"), ODD_ORDERS)
def test_one_order(made: Callable[..., list[Order]], lock: str, redeem: str, line: Any) -> None:
    """The expectation refuses an order as the contract does, and unlocks a coupon that was locked in vain."""
    result = expectation.compute_expectation(made(line))

    unlocked = {"unlock 204": 1} if lock == "201" != redeem else {}
    assert result.answers == {f"lock {lock}": 1, f"redeem {redeem}": 1, **unlocked}
    assert len(result.redemptions) == (redeem == "201")


def test_rollbacks(made: Callable[..., list[Order]]) -> None:
    """A cancelled invoice rolls back its user's latest standing redemption, if there is one."""
    result = expectation.compute_expectation(
        made(
            order("-5", "u1", "C1", cancelled=True),  # before any
            order("20.10", "u1", "1"),
            order("33.10", "u2", "2"),
            order("19.00", "u1", "3"),
            order("100.00", "u1", "4"),
            order("-5", "u1", "C2", cancelled=True),  # takes 4 back
            order("-5", None, "C3", cancelled=True),
            order("50.00", "u1", "5"),
            order("-5", "u1", "C4", cancelled=True),  # takes 5 back
            order("-5", "u1", "C5", cancelled=True),  # takes 1 back
            order("-5", "u1", "C6", cancelled=True),  # none is left
        ),
    )

    assert result.answers == {
        "lock 201": 5,
        "redeem 201": 4,
        "redeem 422 order_value_too_low": 1,
        "unlock 204": 1,
        "rollback 200": 3,
        expectation.NOTHING_TO_ROLL_BACK: 3,
    }
    assert expectation.count_requests(result.answers) == 14
    assert [(one.code, one.order, str(one.discount), one.rolled_back) for one in result.redemptions] == [
        ("RUN-000001", "RUN-1", "3.02", True),
        ("RUN-000002", "RUN-2", "4.96", False),
        ("RUN-000004", "RUN-4", "15.00", True),
        ("RUN-000005", "RUN-5", "7.50", True),
    ]
    assert check.compute_totals(result.redemptions) == {
        "standing": 1,
        "rolled back": 3,
        "users": 1,
        "discount of all": Decimal("30.48"),
        "discount standing": Decimal("4.96"),
    }


def test_order_comes_twice(made: Callable[..., list[Order]]) -> None:
    """An order has one coupon, for whichever user, until that is rolled back."""
    orders = made(
        order(user="u1", order_id="1"),
        order(user="u2", order_id="1"),
        order("15.30", user="u1", order_id="1"),
        order(user="u1", order_id="C1", cancelled=True),
        order(user="u2", order_id="1"),
    )

    result = expectation.compute_expectation(orders)

    assert result.answers == {
        "lock 201": 2,
        "lock 409 order_already_used": 2,
        "redeem 201": 2,
        "redeem 409 order_already_used": 2,
        "rollback 200": 1,
    }
    assert [(one.user, one.rolled_back) for one in result.redemptions] == [("u1", True), ("u2", False)]


def test_streams(made: Callable[..., list[Order]]) -> None:
    """A user's orders stay together in order, with those of users who share an order; a guest's order is alone."""
    orders = made(
        order(user="u1", order_id="1"),
        order(user=None, order_id="2"),
        order(user="u2", order_id="3"),
        order(user=None, order_id="4"),
        order(user="u3", order_id="5"),
        order(user="u1", order_id="6"),
        order(user="u3", order_id="6"),
        order(user="u2", order_id=None),
        order(user="u1", order_id=None),
    )

    assert [[one.line for one in stream] for stream in group_orders(orders)] == [[1, 5, 6, 7, 9], [2], [3, 8], [4]]


def test_streams_of_a_chain_take_linear_work() -> None:
    """4,000 orders, each with the next one's user or orderId, are one stream, and each costs less than 100 lines."""
    for chain in (range(4000), range(4000, 0, -1)):
        orders = [Order(n, f"o{n // 2}", f"u{(n + 1) // 2}", False, "25.00", b"[]") for n in chain]

        result, lines = count_lines(lambda orders=orders: group_orders(orders))

        assert result == [orders]
        assert lines < 100 * len(orders)


def count_lines(work: Callable[[], Any]) -> tuple[Any, int]:
    """The result of the work, and how many lines of Python it ran: a measure that no other process disturbs."""
    lines, before = 0, sys.gettrace()

    def count(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    sys.settrace(count)
    try:
        result = work()
        return result, lines
    finally:
        sys.settrace(before)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "is not JSON, at character 2"),
        ("[" * 100_000, "is not JSON"),
        ("9" * 5000, "is not JSON"),
        ("\udcff", "is not UTF-8"),
        ("[]", "is not a JSON object"),
        ('{"orderId": "A-1", "userId": null}', "lacks cancelled, orderValue, items"),
        (json.dumps(order(order_id=5)), "has an orderId or userId that is neither a string nor null"),
        (json.dumps(order(user=5)), "has an orderId or userId that is neither a string nor null"),
        (json.dumps(order(cancelled="no")), "has a cancelled that is neither true nor false"),
    ],
)
def test_unusable_file(made: Callable[..., list[Order]], line: str, reason: str) -> None:
    """A file is refused with the number of the line that is no order, and what is wrong with it."""
    with pytest.raises(UnusableFile) as refusal:
        made(order(), line)
    assert str(refusal.value) == f"line 2 {reason}"


def test_empty_file(made: Callable[..., list[Order]]) -> None:
    """A file without orders is refused."""
    with pytest.raises(UnusableFile, match="no orders"):
        made()


def test_differences() -> None:
    """A row differs where any column differs; errors that cancel out in a sum are reported."""
    redemptions = [
        Redemption(f"RUN-{n}", f"u{n}", f"RUN-{n}", Decimal("20.10"), Decimal("3.02"), Decimal("17.08"))
        for n in range(2)
    ]
    swapped = [redemptions[0]._replace(discount=Decimal("3.01")), redemptions[1]._replace(discount=Decimal("3.03"))]

    rows = check.make_store_rows(
        redemptions,
        5,
        {"API": check.StoreContents(redemptions), "Redis": check.StoreContents(swapped, {"codes free": 2})},
    )

    assert [row.name for row in rows if row.differs] == ["exactly as expected", "codes free"]
    assert check.make_outcome_rows(
        Counter({"lock 201": 2, "redeem 201": 2}), Counter({"redeem 201": 2, "lock 409 x": 2})
    ) == [
        ("lock 201", 2, {"API": 0}),
        ("lock 409 x", 0, {"API": 2}),
        ("redeem 201", 2, {"API": 2}),
    ]


async def test_a_redis_without_the_book(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that does not have the book differs: its column is not left out."""
    monkeypatch.setattr(check, "read_nodes", AsyncMock(return_value=[]))

    rows = check.make_store_rows([], 5, {"Redis": await check.read_redis("redis://127.0.0.1:1", "book", [])})

    assert [row.name for row in rows if row.differs] == ["codes free"]


class _Lagging:
    """A service whose record has these lags, one look after the other."""

    def __init__(self, *lags: int) -> None:
        self._lags = iter(lags)
        self._last = 0

    async def request(self, *_asked: Any) -> Response:
        self._last = next(self._lags, self._last)
        return Response(200, {}, json.dumps({"lagEvents": self._last}).encode())


@pytest.mark.parametrize(
    ("lags", "stall_s", "drain_s", "recorded"),
    [((300, 200, 250, 0), 60, 60, True), ((3, 2), 0, 60, False), ((3, 2, 1), 60, 0.3, False), ((0,), 0, 60, True)],
)
async def test_the_record_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, lags: tuple[int, ...], stall_s: float, drain_s: float, recorded: bool
) -> None:
    """A replay waits while the lag falls, but not for a lag that stands still, nor for ever."""
    monkeypatch.setattr(check, "STALL_TIMEOUT_S", stall_s)
    monkeypatch.setattr(check, "RECORD_TIMEOUT_S", drain_s)

    assert await check.wait_until_recorded(_Lagging(*lags), "token") is recorded  # type: ignore[arg-type]
