"""The orders of the file, and what each sends."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from service.replay.progress import Report, silent

_LINES_AT_A_TIME = 1_000

_Key = tuple[str, str | int]
"""What orders may have in common: an orderId or a user."""


class UnusableFile(ValueError):
    """The file holds something that is no order."""


MAX_ORDERS = 999_999
"""Of a file: so many numbers have the codes of a run's book."""


class Order(NamedTuple):
    """A line of the file as it is, but `order_id` with the run's prefix; `code` is the coupon it takes. The items are
    kept as JSON, which is a tenth of their objects' size."""

    line: int
    order_id: str | None
    user_id: str | None
    cancelled: bool
    value: Any
    items_json: bytes
    code: str = ""

    @property
    def items(self) -> Any:
        """What the line has as items."""
        return json.loads(self.items_json)

    def lock_body(self) -> dict[str, Any]:
        """What locks the order's coupon."""
        return {"userId": self.user_id, "orderId": self.order_id}

    def redeem_body(self, currency: str, token: str | None = None) -> dict[str, Any]:
        """What redeems it, under the lock where there is one."""
        held = {} if token is None else {"lockToken": token}
        order = {"orderValue": self.value, "currency": currency, "items": self.items}
        return {**self.lock_body(), **order, **held}


def packed(body: Any) -> bytes:
    """A body as it is sent."""
    return json.dumps(body, separators=(",", ":")).encode()


def codes(run: str, count: int) -> list[str]:
    """The codes of a run's book, in the order in which orders take them."""
    return [code_of(run, number) for number in range(1, count + 1)]


def code_of(run: str, number: int) -> str:
    """The code of this number, from 1."""
    return f"{run}-{number:06d}"


def read(path: Path, run: str, report: Report = silent) -> list[Order]:
    """The orders of a file, in its order; ids and codes start with the run's prefix. Raises UnusableFile."""
    found: list[Order] = []
    taken, done, size = 0, 0, path.stat().st_size
    with path.open("rb") as file:
        for line, text in enumerate(file, 1):
            if line > MAX_ORDERS:
                raise UnusableFile(f"it has more than {MAX_ORDERS} lines")
            try:
                order = _parse(line, text.decode(), run, taken + 1)
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise UnusableFile(f"line {line} is no order: {type(error).__name__} {error}") from error
            taken += not order.cancelled
            found.append(order)
            done += len(text)
            if line % _LINES_AT_A_TIME == 0:
                report("Reading orders", done, size)
    if not found:
        raise UnusableFile("it holds no orders")
    report("Reading orders", size, size)
    return found


def _parse(line: int, text: str, run: str, number: int) -> Order:
    """An order; it takes the code of this number where it isn't cancelled. Raises ValueError, TypeError, KeyError."""
    fields = json.loads(text)
    order_id, user_id, cancelled = fields["orderId"], fields["userId"], fields["cancelled"]
    if not (isinstance(order_id, str | None) and isinstance(user_id, str | None)):
        raise TypeError("orderId and userId must be texts or null")
    if not isinstance(cancelled, bool):
        raise TypeError("cancelled must be true or false")
    code = "" if cancelled else code_of(run, number)
    own_id = None if order_id is None else f"{run}-{order_id}"
    return Order(line, own_id, user_id, cancelled, fields["orderValue"], packed(fields["items"]), code)


def streams(orders: Sequence[Order]) -> list[list[Order]]:
    """The orders that must follow each other: a user's, and those that share an orderId; a guest's are each alone."""
    sets = _DisjointSets()
    for order in orders:
        sets.join(_order_key(order), _user_key(order))
    together: dict[_Key, list[Order]] = {}
    for order in orders:
        together.setdefault(sets.root(_user_key(order)), []).append(order)
    return list(together.values())


class _DisjointSets:
    """Sets of keys that only grow. Path compression and union by size make each step nearly constant, whatever the
    order in which keys are joined."""

    def __init__(self) -> None:
        self._parent: dict[_Key, _Key] = {}
        self._size: dict[_Key, int] = {}
        """Of roots alone."""

    def root(self, key: _Key) -> _Key:
        """The key that stands for the set of this one, which is a set of its own where it is new."""
        if key not in self._parent:
            self._parent[key] = key
            self._size[key] = 1
            return key
        root = key
        while (above := self._parent[root]) != root:
            root = above
        while (above := self._parent[key]) != root:
            self._parent[key], key = root, above
        return root

    def join(self, one: _Key, other: _Key) -> None:
        """Make one set of the sets of two keys."""
        small, large = self.root(one), self.root(other)
        if small == large:
            return
        if self._size[small] > self._size[large]:
            small, large = large, small
        self._parent[small] = large
        self._size[large] += self._size.pop(small)


def _order_key(order: Order) -> _Key:
    return ("unnamed", order.line) if order.order_id is None else ("order", order.order_id)


def _user_key(order: Order) -> _Key:
    return ("guest", order.line) if order.user_id is None else ("user", order.user_id)
