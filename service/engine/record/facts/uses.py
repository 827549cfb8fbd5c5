"""The uses that a batch of events spends and gives back, for event_writer.py: of places in orders, and of codes with
one use. Their tables have a row for each use that stands."""

from collections.abc import Iterable, Sequence
from typing import Any

from service.engine.formats.events import RolledBack

_PLACE_TWICE = "a place in an order was used twice"


class NeedsSmallerBatch(ValueError):
    """One transaction's checks don't see the order of these events. Record those before `seq` first, if it is known,
    else fewer at once; the first event alone never raises it."""

    seq: int | None = None


class Uses:
    """Uses that are spent and given back within a batch: of places in orders, and of codes with one use. Lines of
    COPY are parsed only if one is given back."""

    def __init__(self) -> None:
        self._new_orders: list[str] = []
        self._new_singles: list[str] = []
        self.take_place, self.use_up = self._new_orders.append, self._new_singles.append
        self._orders: dict[str, dict[str, str]] = {}
        self._singles: dict[str, str] = {}
        self._given_back: dict[str, set[str]] = {}
        """The places of orders that the batch takes and gives back."""
        self.orders_freed: list[tuple[int, str, str]] = []
        """Workspace, order and redemption of places taken before the batch."""
        self._taken: dict[str, frozenset[str]] = {}
        """Of such a redemption, the places in its order that the batch took before it was rolled back."""
        self.singles_freed: list[tuple[int, str, str]] = []
        """Workspace, code and redemption of codes used before the batch."""

    def give_back(self, event: RolledBack) -> None:
        """Undo a redemption's uses. Raises NeedsSmallerBatch."""
        self._parse_lines()
        order, redemption_id = event.order, event.redemption_id
        if order is not None:
            name = f"{event.workspace}\t{order}"
            uses, given_back = self._orders.get(name, {}), self._given_back.setdefault(name, set())
            if redemption_id in uses:
                slot = uses.pop(redemption_id)
                if slot in uses.values():
                    raise NeedsSmallerBatch(_PLACE_TWICE)
                given_back.add(slot)
            else:
                self.orders_freed.append((event.workspace, order, redemption_id))
                if taken := given_back.union(uses.values()):
                    self._taken[redemption_id] = frozenset(taken)
        code = f"{event.workspace}\t{event.code}"
        single = self._singles.get(code)
        if single == redemption_id:
            del self._singles[code]
        elif single is not None:
            raise NeedsSmallerBatch("a code was used and given back")
        else:
            self.singles_freed.append((event.workspace, event.code, redemption_id))

    def check_places(self, freed: Iterable[Sequence[Any]]) -> None:
        """Check that the batch took no place of an order while a redemption from before it still had that place.
        Raises NeedsSmallerBatch."""
        if any(str(slot) in self._taken.get(redemption_id, ()) for redemption_id, slot in freed):
            raise NeedsSmallerBatch(_PLACE_TWICE)

    def orders(self) -> list[str]:
        parsed = [f"{order}\t{i}\t{slot}\n" for order, uses in self._orders.items() for i, slot in uses.items()]
        return parsed + self._new_orders

    def singles(self) -> list[str]:
        return [f"{code}\t{redemption_id}\n" for code, redemption_id in self._singles.items()] + self._new_singles

    def _parse_lines(self) -> None:
        for line in self._new_orders:
            order, redemption_id, slot = line[:-1].rsplit("\t", 2)
            self._orders.setdefault(order, {})[redemption_id] = slot
        for line in self._new_singles:
            code, redemption_id = line[:-1].rsplit("\t", 1)
            if self._singles.setdefault(code, redemption_id) != redemption_id:
                raise NeedsSmallerBatch("a code with one use was used twice")
        self._new_orders.clear()
        self._new_singles.clear()
