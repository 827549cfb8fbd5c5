"""Uses that a batch of events spends: rows for COPY."""

from service.formats.events import RolledBack
from service.record.facts.binary_rows import integer_field, parse_uuid_field, row_start, text_field

ORDER_USES = "workspace order_id slot redemption_id".split()
SINGLE_USES = "workspace code redemption_id".split()
ORDER_USE, SINGLE_USE = row_start(len(ORDER_USES)), row_start(len(SINGLE_USES))
_SLOT, _ID = 8, 20
"""Lengths of the last fields of a row."""


class Undecided(ValueError):
    """These events can't be checked in one transaction, which does not see the order. Record fewer at once."""


class SpentUses:
    """Uses that are spent and given back within a batch: of places in orders, and of codes with one use. Rows of COPY
    are parsed only if one is given back."""

    def __init__(self) -> None:
        self._new_orders: list[str] = []
        self._new_singles: list[str] = []
        self.take_place, self.use_up = self._new_orders.append, self._new_singles.append
        self._orders: dict[str, dict[str, str]] = {}
        self._singles: dict[str, str] = {}
        self.orders_freed: list[tuple[int, str, str]] = []
        """Workspace, order and redemption of places taken before the batch."""
        self.singles_freed: list[tuple[int, str, str]] = []
        """Workspace, code and redemption of codes used before the batch."""

    def give_back(self, event: RolledBack) -> None:
        """Undo a redemption's uses. Raises Undecided."""
        self._parse_rows()
        w, order, own_id = integer_field(event.workspace), event.order, parse_uuid_field(event.redemption_id)
        if order is not None:
            uses = self._orders.get(f"{ORDER_USE}{w}{text_field(order)}", {})
            if own_id in uses:
                if uses.pop(own_id) in uses.values():
                    raise Undecided("a place in an order was used twice")
            elif uses:
                raise Undecided("an order was used and given back")
            else:
                self.orders_freed.append((event.workspace, order, event.redemption_id))
        code = f"{SINGLE_USE}{w}{text_field(event.code)}"
        single = self._singles.get(code)
        if single == own_id:
            del self._singles[code]
        elif single is not None:
            raise Undecided("a code was used and given back")
        else:
            self.singles_freed.append((event.workspace, event.code, event.redemption_id))

    def orders(self) -> list[str]:
        parsed = [f"{order}{slot}{i}" for order, uses in self._orders.items() for i, slot in uses.items()]
        return parsed + self._new_orders

    def singles(self) -> list[str]:
        return [f"{code}{own_id}" for code, own_id in self._singles.items()] + self._new_singles

    def _parse_rows(self) -> None:
        for row in self._new_orders:
            rest, own_id = row[:-_ID], row[-_ID:]
            self._orders.setdefault(rest[:-_SLOT], {})[own_id] = rest[-_SLOT:]
        for row in self._new_singles:
            code, own_id = row[:-_ID], row[-_ID:]
            if self._singles.setdefault(code, own_id) != own_id:
                raise Undecided("a code with one use was used twice")
        self._new_orders.clear()
        self._new_singles.clear()
