"""Orders read from a file, and the bodies of their requests. command.py reads them, order_sender.py sends them,
expectation.py judges them. The file's format is described in the help of `scrip replay`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from service.replay.progress import ReportProgress, ignore_progress

_LINES_PER_REPORT = 1_000
_FIELDS = ("orderId", "userId", "cancelled", "orderValue", "items")

_Key = tuple[str, str | int]
"""An orderId or a user, which several orders may share."""


class UnusableFile(ValueError):
    """A line of the file is not an order, or the file has no orders or too many."""


MAX_ORDERS = 999_999
"""Limit of a file: codes have six-digit numbers."""


CURRENCY = "GBP"
"""The orders' currency; it has two digits."""


class Order(NamedTuple):
    """One line of the file. `order_id` starts with the run's prefix; `code` is the coupon that the order takes.

    The items are stored as JSON, which needs a tenth of the memory of objects.
    """

    line: int
    order_id: str | None
    user_id: str | None
    cancelled: bool
    value: Any
    items_json: bytes
    code: str = ""

    @property
    def items(self) -> Any:
        """The items as in the file; they may be malformed."""
        return json.loads(self.items_json)

    def lock_body(self) -> dict[str, Any]:
        return {"userId": self.user_id, "orderId": self.order_id}

    def redeem_body(self, token: str | None = None) -> dict[str, Any]:
        """Return the body of the request that redeems the coupon, under a lock if `token` is given."""
        lock = {} if token is None else {"lockToken": token}
        order = {"orderValue": self.value, "currency": CURRENCY, "items": self.items}
        return {**self.lock_body(), **order, **lock}


def encode_body(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def make_codes(run: str, count: int) -> list[str]:
    """Make the codes of a run's book, in the sequence in which orders take them."""
    return [make_code(run, number) for number in range(1, count + 1)]


def make_code(run: str, number: int) -> str:
    """Make one code of a run; `number` starts from 1."""
    return f"{run}-{number:06d}"


def read_orders(path: Path, run: str, report: ReportProgress = ignore_progress) -> list[Order]:
    """Read the orders of a file. Ids and codes start with the run's prefix. Raises UnusableFile, OSError."""
    orders: list[Order] = []
    taken, done, size = 0, 0, path.stat().st_size
    with path.open("rb") as file:
        for line, text in enumerate(file, 1):
            if line > MAX_ORDERS:
                raise UnusableFile(f"it has more than {MAX_ORDERS} lines")
            try:
                order = _parse_order(line, text, run, taken + 1)
            except UnusableFile as error:
                raise UnusableFile(f"line {line} {error}") from error
            taken += not order.cancelled
            orders.append(order)
            done += len(text)
            if line % _LINES_PER_REPORT == 0:
                report("Reading orders", done, size)
    if not orders:
        raise UnusableFile("it holds no orders")
    report("Reading orders", size, size)
    return orders


def _parse_order(line: int, text: bytes, run: str, number: int) -> Order:
    """Parse a line. Unless cancelled, the order takes the code `number`. Raises UnusableFile."""
    try:
        fields = json.loads(text.decode())
    except UnicodeDecodeError as error:
        raise UnusableFile("is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        where = f", at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
        raise UnusableFile(f"is not JSON{where}") from error
    if not isinstance(fields, dict):
        raise UnusableFile("is not a JSON object")
    if missing := [name for name in _FIELDS if name not in fields]:
        raise UnusableFile(f"lacks {', '.join(missing)}")
    order_id, user_id, cancelled = fields["orderId"], fields["userId"], fields["cancelled"]
    if not (isinstance(order_id, str | None) and isinstance(user_id, str | None)):
        raise UnusableFile("has an orderId or userId that is neither a string nor null")
    if not isinstance(cancelled, bool):
        raise UnusableFile("has a cancelled that is neither true nor false")
    code = "" if cancelled else make_code(run, number)
    prefixed_id = None if order_id is None else f"{run}-{order_id}"
    return Order(line, prefixed_id, user_id, cancelled, fields["orderValue"], encode_body(fields["items"]), code)


def group_orders(orders: Sequence[Order]) -> list[list[Order]]:
    """Group orders that must be sent in sequence: those of one user, and those that share an orderId.

    An order without a user shares nothing by its user.
    """
    sets: dict[_Key, list[_Key]] = {}
    for order in orders:
        one, other = (sets.setdefault(key, [key]) for key in (_make_order_key(order), _make_user_key(order)))
        if one is not other:
            small, large = sorted((one, other), key=len)
            large += small
            sets.update(dict.fromkeys(small, large))
    groups: dict[int, list[Order]] = {}
    for order in orders:
        groups.setdefault(id(sets[_make_user_key(order)]), []).append(order)
    return list(groups.values())


def _make_order_key(order: Order) -> _Key:
    return ("unnamed", order.line) if order.order_id is None else ("order", order.order_id)


def _make_user_key(order: Order) -> _Key:
    return ("guest", order.line) if order.user_id is None else ("user", order.user_id)
