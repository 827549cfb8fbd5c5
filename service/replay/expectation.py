"""What must come out, from the file alone: the contract's rules for this one book, written a second time."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, NamedTuple

from service.replay.orders import Order, packed

PERCENT, CAP, MINIMUM = Decimal(15), Decimal("50.00"), Decimal("20.00")
ROUNDING = ROUND_HALF_EVEN
CURRENCIES = ("EUR", "GBP", "USD")
"""Those of two digits, as PENNY is."""
PENNY = Decimal("0.01")

NOTHING = "nothing to roll back"

_MAX_AMOUNT = Decimal(10) ** 11
_MAX_BODY_BYTES = 64 * 1024
_MAX_ITEMS = 1_000
_MAX_QUANTITY = 1_000_000
_LOCK_TOKEN_BYTES = len(',"lockToken":""') + 16

_id = re.compile(r"(?!\.\.?\Z)(?:(?![/\\?#%])[!-~]){1,100}\Z")
_lone_surrogate = re.compile("[\ud800-\udfff]")
_number = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?\Z", re.ASCII)


class Fact(NamedTuple):
    """A redemption, as the file demands it or as a part of the service knows it."""

    code: str
    user: str
    order: str | None
    value: Decimal
    discount: Decimal
    final: Decimal
    rolled_back: bool = False


@dataclass
class Expected:
    """How often each answer must come, and the redemptions that there must be."""

    answers: Counter[str]
    facts: list[Fact]

    @property
    def requests(self) -> int:
        """How many requests get an answer."""
        return self.answers.total() - self.answers[NOTHING]


def expect(orders: Iterable[Order], currency: str) -> Expected:
    """Go through the orders in the file's order. What one user does changes nothing for another."""
    answers: Counter[str] = Counter()
    facts: dict[str, Fact] = {}
    standing: defaultdict[str | None, list[str]] = defaultdict(list)  # a user's codes, the latest last
    used: set[str] = set()  # orders that have their coupon
    for order in orders:
        if order.cancelled:
            if not standing[order.user_id]:
                answers[NOTHING] += 1
                continue
            answers["rollback 200"] += 1
            code = standing[order.user_id].pop()
            facts[code] = facts[code]._replace(rolled_back=True)
            used -= {facts[code].order}
            continue

        lock_refusal = _refused_lock(order, used)
        answers[f"lock {lock_refusal or 201}"] += 1
        refusal = _refused_redeem(order, used, currency, locked=not lock_refusal)
        answers[f"redeem {refusal or 201}"] += 1
        if refusal is None and order.user_id is not None:
            value = Decimal(str(order.value))
            discount = discount_of(value)
            facts[order.code] = Fact(order.code, order.user_id, order.order_id, value, discount, value - discount)
            standing[order.user_id].append(order.code)
            if order.order_id is not None:
                used.add(order.order_id)
        elif not lock_refusal:
            answers["unlock 204"] += 1
    return Expected(answers, list(facts.values()))


def discount_of(value: Decimal) -> Decimal:
    """The discount on an order of this value."""
    return min((value * PERCENT / 100).quantize(PENNY, ROUNDING), CAP)


def _refused_lock(order: Order, used: set[str]) -> str | None:
    return _worst({_bad_user(order), _bad_order(order)}) or _used(order, used)


def _refused_redeem(order: Order, used: set[str], currency: str, locked: bool) -> str | None:
    """The refusal that is named first, None where the redemption must succeed."""
    size = len(packed(order.redeem_body(currency))) + (_LOCK_TOKEN_BYTES if locked else 0)
    if size > _MAX_BODY_BYTES:
        return "413 too_large"
    value_fault = None if order.value is None else _bad_amount(order.value)
    fault = _worst({_bad_user(order), _bad_order(order), value_fault, *_bad_items(order.items)})
    if fault or (fault := _used(order, used)):
        return fault
    if order.value is None:
        return "422 order_value_required"
    return "422 order_value_too_low" if Decimal(str(order.value)) < MINIMUM else None


def _worst(faults: set[str | None]) -> str | None:
    """Of several faults the one that is named: what can't be read is not judged any further."""
    return next((fault for fault in ("400 malformed", "422 invalid") if fault in faults), None)


def _used(order: Order, used: set[str]) -> str | None:
    return "409 order_already_used" if order.order_id in used else None


def _bad_user(order: Order) -> str | None:
    if order.user_id is None:
        return "400 malformed"
    return None if _id.match(order.user_id) else "422 invalid"


def _bad_order(order: Order) -> str | None:
    return None if order.order_id is None or _id.match(order.order_id) else "422 invalid"


def _bad_amount(amount: Any) -> str | None:
    if isinstance(amount, bool) or not isinstance(amount, str | int | float) or not _number.match(str(amount)):
        return "400 malformed"
    exact = Decimal(str(amount))
    return None if 0 <= exact < _MAX_AMOUNT and exact % PENNY == 0 else "422 invalid"


def _bad_items(items: Any) -> set[str | None]:
    if items is None:
        return set()
    if not isinstance(items, list):
        return {"400 malformed"}
    too_many = "422 invalid" if len(items) > _MAX_ITEMS else None
    return {too_many, *map(_bad_item, items)}


def _bad_item(item: Any) -> str | None:
    if not isinstance(item, dict) or item.keys() != {"sku", "quantity", "unitPrice"}:
        return "400 malformed"
    sku, quantity = item["sku"], item["quantity"]
    if not isinstance(sku, str) or _lone_surrogate.search(sku):
        return "400 malformed"
    if isinstance(quantity, bool) or not isinstance(quantity, int):
        return "400 malformed"
    sensible = sku.isprintable() and 1 <= quantity <= _MAX_QUANTITY
    return _worst({None if sensible else "422 invalid", _bad_amount(item["unitPrice"])})
