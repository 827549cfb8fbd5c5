"""Computes the expected results from the file alone: the contract's rules for the book, implemented a second time.
command.py calls this. It must not import the service's rules."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, NamedTuple

from service.replay.orders import Order, encode_body

PERCENT, CAP, MINIMUM = Decimal(15), Decimal("50.00"), Decimal("20.00")
ROUNDING = ROUND_HALF_EVEN
PENNY = Decimal("0.01")

NOTHING_TO_ROLL_BACK = "nothing to roll back"

_MAX_AMOUNT = Decimal(10) ** 11
_MAX_BODY_BYTES = 64 * 1024
_MAX_ITEMS = 1_000
_MAX_QUANTITY = 1_000_000
_LOCK_TOKEN_BYTES = len(',"lockToken":""') + 16

_ID = re.compile(r"(?!\.\.?\Z)(?:(?![/\\?#%])[!-~]){1,100}\Z")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?\Z", re.ASCII)


class Redemption(NamedTuple):
    """A redemption, as expected or as the API or Postgres holds it."""

    code: str
    user: str
    order: str | None
    value: Decimal
    discount: Decimal
    final: Decimal
    rolled_back: bool = False


@dataclass
class Expectation:
    """The expected number of each answer, and the expected redemptions."""

    answers: Counter[str]
    redemptions: list[Redemption]


def count_requests(answers: Counter[str]) -> int:
    """How many of the answers were given to a request."""
    return answers.total() - answers[NOTHING_TO_ROLL_BACK]


def compute_expectation(orders: Iterable[Order]) -> Expectation:
    """Compute the expectation, order by order. Groups of orders (`group_orders`) do not affect each other."""
    answers: Counter[str] = Counter()
    redemptions: dict[str, Redemption] = {}
    standing: defaultdict[str | None, list[str]] = defaultdict(list)  # codes by user, latest last
    used: set[str] = set()  # orders that have a coupon
    for order in orders:
        if order.cancelled:
            if not standing[order.user_id]:
                answers[NOTHING_TO_ROLL_BACK] += 1
                continue
            answers["rollback 200"] += 1
            code = standing[order.user_id].pop()
            redemptions[code] = redemptions[code]._replace(rolled_back=True)
            used -= {redemptions[code].order}
            continue

        lock_refusal = _refuse_lock(order, used)
        answers[f"lock {lock_refusal or 201}"] += 1
        refusal = _refuse_redeem(order, used, is_locked=not lock_refusal)
        answers[f"redeem {refusal or 201}"] += 1
        if refusal is None and order.user_id is not None:
            value = Decimal(str(order.value))
            discount = compute_discount(value)
            redemptions[order.code] = Redemption(
                order.code, order.user_id, order.order_id, value, discount, value - discount
            )
            standing[order.user_id].append(order.code)
            if order.order_id is not None:
                used.add(order.order_id)
        elif not lock_refusal:
            answers["unlock 204"] += 1
    return Expectation(answers, list(redemptions.values()))


def compute_discount(value: Decimal) -> Decimal:
    return min((value * PERCENT / 100).quantize(PENNY, ROUNDING), CAP)


def _refuse_lock(order: Order, used: set[str]) -> str | None:
    """Return the refusal of the lock; None if it must succeed."""
    return _choose_fault({_check_user(order), _check_order_id(order)}) or _check_used(order, used)


def _refuse_redeem(order: Order, used: set[str], is_locked: bool) -> str | None:
    """Return the refusal of the redemption; None if it must succeed."""
    size = len(encode_body(order.redeem_body())) + (_LOCK_TOKEN_BYTES if is_locked else 0)
    if size > _MAX_BODY_BYTES:
        return "413 too_large"
    value_fault = None if order.value is None else _check_amount(order.value)
    faults = {_check_user(order), _check_order_id(order), value_fault, *_check_items(order.items)}
    fault = _choose_fault(faults) or _check_worth(order)
    if fault or (fault := _check_used(order, used)):
        return fault
    if order.value is None:
        return "422 order_value_required"
    return "422 order_value_too_low" if Decimal(str(order.value)) < MINIMUM else None


def _choose_fault(faults: set[str | None]) -> str | None:
    """Return the fault that the service reports: a malformed body is not validated any further."""
    return next((fault for fault in ("400 malformed", "422 invalid") if fault in faults), None)


def _check_used(order: Order, used: set[str]) -> str | None:
    return "409 order_already_used" if order.order_id in used else None


def _check_user(order: Order) -> str | None:
    if order.user_id is None:
        return "400 malformed"
    return None if _ID.match(order.user_id) else "422 invalid"


def _check_order_id(order: Order) -> str | None:
    return None if order.order_id is None or _ID.match(order.order_id) else "422 invalid"


def _check_amount(amount: Any) -> str | None:
    if isinstance(amount, bool) or not isinstance(amount, str | int | float) or not _NUMBER.match(str(amount)):
        return "400 malformed"
    exact = Decimal(str(amount))
    return None if 0 <= exact < _MAX_AMOUNT and exact % PENNY == 0 else "422 invalid"


def _check_items(items: Any) -> set[str | None]:
    if items is None:
        return set()
    if not isinstance(items, list):
        return {"400 malformed"}
    too_many = "422 invalid" if len(items) > _MAX_ITEMS else None
    return {too_many, *map(_check_item, items)}


def _check_worth(order: Order) -> str | None:
    """Return the fault of valid items that are worth more than the order, each unit's price rounded up to a penny."""
    if order.value is None or not order.items:
        return None
    prices = [(item["quantity"], Decimal(str(item["unitPrice"]))) for item in order.items]
    worth = sum(quantity * price for quantity, price in prices)
    rounding = sum(quantity for quantity, _ in prices) * PENNY
    return "422 invalid" if worth > Decimal(str(order.value)) + rounding else None


def _check_item(item: Any) -> str | None:
    if not isinstance(item, dict) or item.keys() != {"sku", "quantity", "unitPrice"}:
        return "400 malformed"
    sku, quantity = item["sku"], item["quantity"]
    if not isinstance(sku, str) or _LONE_SURROGATE.search(sku):
        return "400 malformed"
    if isinstance(quantity, bool) or not isinstance(quantity, int):
        return "400 malformed"
    is_valid = sku.isprintable() and 1 <= quantity <= _MAX_QUANTITY
    return _choose_fault({None if is_valid else "422 invalid", _check_amount(item["unitPrice"])})
