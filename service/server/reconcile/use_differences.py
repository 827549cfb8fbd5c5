"""Compare orders' places, users' counts by book, and orders' gifts, bucket by bucket: a part of a comparison
(comparison.py). Rows have the columns of the query `uses_in_order`. examination.py makes the writes."""

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

from service.engine.domain.field_types import decode_id
from service.engine.formats import key_names
from service.engine.formats.coupon_record import parse_coupon_record
from service.engine.formats.coupon_state import About, Class, Difference
from service.engine.formats.event_id import EventId
from service.engine.formats.order_entries import is_nothing, parse_gift, parse_places, split_marks
from service.engine.hot.inspection import ITEMS_A_RUN, Item, Snapshot
from service.engine.record.actor import mask
from service.server.in_postgres import comparisons as record
from service.server.reconcile.bucket_walk import pages
from service.server.reconcile.examination import Examiner, Subject, UndecidableNow, pair_up

_BUCKETS = {"o": key_names.orders, "g": key_names.gifts}


class UseField(NamedTuple):
    """A field of a hash `o:<bucket>` or `g:<bucket>`. `recorded` is the record's value, if the first pass has read
    it; `code` is the code of a gift that only Redis has."""

    kind: str
    bucket: int
    name: str
    recorded: str = ""
    code: str = ""


class Uses(Subject):
    """One workspace's. The record's fields, in bucket order and at one cut, are compared with the hashes by pages."""

    at_once = ITEMS_A_RUN // 2

    def __init__(self, examiner: Examiner, existing: set[int] | None) -> None:
        """`existing`: the existing buckets of orders and gifts; None to read all."""
        super().__init__(examiner)
        self._existing = existing

    async def compare(self) -> None:
        cut = await self._examiner.cut()
        recorded = self._examiner.bulk.uses(self._workspace, cut.at)
        async with aclosing(pages(recorded, self._existing)) as some:
            async for buckets, rows in some:
                await self._page(buckets, rows)
                self._examiner.count(sum("/" not in row[2] for row in rows))

    async def _page(self, buckets: list[int], rows: list[Any]) -> None:
        suspects: list[UseField] = []
        recorded = {row[2] for row in rows}
        for kind in "og":
            replies = await self._inspector.read_hashes([_BUCKETS[kind](self._w, bucket) for bucket in buckets])
            hashes = {bucket: pair_up(flat) for bucket, flat in zip(buckets, replies, strict=True)}
            if kind == "o":
                hashes = {
                    bucket: {name: split_marks(value)[0] for name, value in fields.items()}
                    for bucket, fields in hashes.items()
                }
            for bucket, of, field, expected in rows:
                if of == kind and hashes[bucket].pop(field, None) != expected:
                    suspects.append(UseField(kind, bucket, field, expected))
            for bucket, surplus in hashes.items():
                for name, value in surplus.items():
                    if kind == "g":
                        suspects.append(UseField(kind, bucket, name, code=parse_gift(value).code))
                    elif not is_nothing(value) and name.removesuffix("/") not in recorded:
                        suspects.append(UseField(kind, bucket, name))
        await self._examiner.examine(self, suspects)

    def items(self, thing: UseField) -> Sequence[Item]:
        items = [Item("h", _BUCKETS[thing.kind](self._w, thing.bucket), thing.name)]
        return [*items, Item("s", key_names.coupon(self._w, thing.code))] if thing.code else items

    async def fetch_expected(self, at: EventId, things: Sequence[UseField]) -> dict[UseField, str]:
        orders = [decode_id(thing.name) for thing in things if "/" not in thing.name]
        users = [decode_id(thing.name.split("/")[1]) for thing in things if "/" in thing.name]
        events = [event for thing in things if thing.kind == "o" and "/" not in thing.name for event in _events(thing)]
        rows = await record.uses(self._pool, self._partition, self._workspace, at, orders, users, events)
        return {UseField(row.kind, row.bucket, row.field): row.expected for row in rows}

    def find_difference(
        self, thing: UseField, expected: dict[UseField, str], snapshot: Snapshot, values: Sequence[Any]
    ) -> Difference | UndecidableNow | None:
        stored, wanted = values[0], expected.get(thing._replace(recorded="", code=""))
        value, marks = split_marks(stored) if stored and thing.kind == "o" else (stored, "")
        if thing.name.endswith("/") and thing._replace(name=thing.name[:-1], recorded="") in expected:
            return None  # what the user has spent of budgets: budget_differences.py compares that
        if value == wanted or (wanted is None and (value is None or is_nothing(value))):
            return None
        if thing.code and wanted is None and not _stands(value, values[1]):
            return None
        class_: Class = "gifts" if thing.kind == "g" else "user_counts" if "/" in thing.name else "orders"
        write = self.items(thing)[0].change(stored, (wanted or "") + marks or None)
        book, _, name = thing.name.removesuffix("/").rpartition("/")
        shown_name = f"user {mask(name)} in book {book}" if book else f"order {mask(name)}"
        about = [About("user" if book else "order", name)]
        if thing.code:
            about.append(About("code", thing.code))
        return Difference((class_,), shown_name, [write], about=about)


def _stands(gift: str, record: str | None) -> bool:
    """Whether the gift's coupon still belongs to its receiver. An entry whose coupon was taken back has no effect."""
    coupon, given = parse_coupon_record(record) if record else None, parse_gift(gift)
    return coupon is not None and (coupon.user, coupon.assigned_at) == (given.user, given.assigned_at)


def _events(order: UseField) -> list[EventId]:
    return [place.event for place in parse_places(order.recorded)]
