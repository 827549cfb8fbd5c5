"""Compute the writes that remove a book's codes and redemptions from Redis, or put them back (docs/decisions/0048).
book_retirer.py calls this, and order_forgetter.py for orders' places. Without side effects. What is put back must
equal, byte for byte, what the scripts write."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from service.domain.field_types import encode_field
from service.formats import key_names
from service.formats.coupon_state import RecordedCode, Write, differing_classes, entry_of
from service.formats.directory_entry import is_locked
from service.formats.event_id import EventId
from service.formats.order_entries import merge_places, without_events
from service.hot.inspection import Item
from service.record.config.retirements import PastUse
from service.record.partitions.comparisons import Use
from service.worker.moving.guarded_changes import ItemValues, RedisDiffers


def own_fields(w: str, code: str) -> tuple[Item, Item, Item]:
    """A code's directory entry, its record, and the number of its locks outside the record."""
    entry = Item("h", key_names.directory(w, key_names.bucket(code)), code)
    return entry, Item("s", key_names.coupon(w, code)), Item("n", key_names.deadlines(w, code))


class Codes:
    """Codes of a book, of which Redis stores all or nothing: their `values`, `shares` in counts of book and users."""

    def __init__(self, w: str, codes: Iterable[RecordedCode]) -> None:
        self.values: dict[Item, str] = {}
        self.shares = Counter[Item]()
        for code in codes:
            if code.owner is not None:
                user = key_names.user(w, encode_field(code.owner))
                self.shares[Item("h", user, f"a{code.book}")] += 1
                if not code.used_up:
                    self.shares[Item("h", user, f"h{code.book}")] += 1
                    if code.expires_ms is not None:
                        self.values[Item("h", user, f"x{code.code}")] = f"{code.expires_ms} {code.book}"
            if code.free:
                self.shares[Item("h", key_names.pool(w, code.book), str(code.bucket))] += 1
            elif code.waits_for_end:
                ends = Item("z", key_names.set_of_codes(w, code.book, "x"), f"{code.bucket} {code.code}")
                self.values[ends] = str(code.expires_ms)

    @property
    def fields(self) -> list[Item]:
        return [*self.values, *self.shares]

    def removals(self, seen: ItemValues) -> list[Write]:
        """Raises RedisDiffers if Redis has less than is to be removed."""
        writes = [field.change(seen[field], None) for field in self.values if seen[field] is not None]
        for field, share in self.shares.items():
            left = int(seen[field] or 0) - share
            if left < 0:
                raise RedisDiffers("a count is too low")
            writes.append(field.change(seen[field], str(left) if left else None))
        return writes

    def additions(self, seen: ItemValues) -> list[Write]:
        writes = [field.change(seen[field], value) for field, value in self.values.items()]
        shares = self.shares.items()
        return [*writes, *(field.change(seen[field], str(int(seen[field] or 0) + share)) for field, share in shares)]


def removals_of_codes(w: str, codes: Sequence[RecordedCode], seen: ItemValues) -> list[Write]:
    """The removal of what Redis stores of these codes alone. Raises RedisDiffers unless Postgres records the same."""
    first, writes = list[Write](), list[Write]()
    for code in codes:
        entry, record, locks = own_fields(w, code.code)
        stored, text = seen[entry], seen[record]
        if is_locked(stored, text) or seen[locks] not in (None, "0"):
            raise RedisDiffers("a code is locked")
        if stored is None or differing_classes(code, stored, text, locked=False):
            raise RedisDiffers("a code differs from the record; run scrip reconcile")
        writes += [entry.change(stored, None), *([record.change(text, None)] if text is not None else [])]
        if code.max != 1 and code.stand:
            first.append(Write("t", key_names.standing(w, code.code), "", "zset", None))
    return first + writes


def additions_of_codes(w: str, codes: Sequence[RecordedCode]) -> list[Write]:
    """The opposite, for codes that Redis lacks. Their standing redemptions, if several, are there already."""
    writes: list[Write] = []
    for code in codes:
        entry, record, _ = own_fields(w, code.code)
        listed, text = entry_of(code)
        writes += [entry.change(None, listed), *([record.change(None, text)] if text is not None else [])]
    return writes


def standing_score(event: EventId) -> str:
    """An event's score among standing redemptions (docs/architecture.md, `W s:<code>`). lua/steps/redeem.lua, the SQL
    function codes_at and surplus_survey.py compute it, too."""
    return str(event.epoch * 16 + len(str(event.seq)))


class Uses:
    """Redemptions of a book: the fields of their orders, and of their users' counts."""

    def __init__(self, w: str, book: int, uses: Sequence[PastUse]) -> None:
        self._events = frozenset(use.event for use in uses)
        self._orders = {order_field(w, use.order) for use in uses if use.order is not None}
        self._counts = {_in_bucket(w, encode_field(use.user), f"{book}/") for use in uses}
        self.users = sorted({use.user for use in uses})
        self.fields = [*self._orders, *self._counts]

    def removals(self, seen: ItemValues) -> list[Write]:
        counts = [field.change(seen[field], None) for field in self._counts if seen[field] is not None]
        return removals_of_places(self._orders, self._events, seen) + counts

    def additions(self, w: str, recorded: Sequence[Use], seen: ItemValues) -> list[Write]:
        """`recorded`: what Postgres expects of the users, and of the orders by these redemptions."""
        writes: list[Write] = []
        for use in recorded:
            field = Item("h", key_names.orders(w, use.bucket), use.field)
            if field in self._orders:
                to = merge_places(seen[field], use.expected)
            elif field in self._counts and seen[field] is None:
                to = use.expected
            else:
                continue
            if to != seen[field]:
                writes.append(field.change(seen[field], to))
        return writes


def order_field(w: str, order: str) -> Item:
    """The places of an order."""
    return _in_bucket(w, encode_field(order))


def removals_of_places(orders: Iterable[Item], events: Collection[EventId], seen: ItemValues) -> list[Write]:
    """The removal of the places that these redemptions have in orders."""
    left = {field: without_events(seen[field] or "", events) for field in orders}
    return [field.change(seen[field], to) for field, to in left.items() if seen[field] != to]


def _in_bucket(w: str, word: str, before: str = "") -> Item:
    return Item("h", key_names.orders(w, key_names.bucket(word)), before + word)
