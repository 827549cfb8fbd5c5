"""What was used and given: orders' places, users' counts of books, and orders' gifts, bucket by bucket."""

from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

from service.access.actor import mask
from service.domain.field_types import decode_id
from service.formats import key_names
from service.formats.coupon_record import parse_coupon_record
from service.formats.coupon_state import About, Class, Difference, Write
from service.formats.event_id import EventId
from service.formats.order_entries import is_nothing, parse_gift, parse_places
from service.hot.inspection import ITEMS_A_LOOK, Item, Seen
from service.reconcile.bucket_walk import pages
from service.reconcile.examination import Examiner, Later
from service.record.partitions import comparisons as record

_BUCKETS = {"o": key_names.orders, "g": key_names.gifts}


class Field(NamedTuple):
    """A field of a hash `o:<bucket>` or `g:<bucket>`, with what it should say, where the first pass came to it in the
    record; for a gift that the record doesn't have, its code."""

    kind: str
    bucket: int
    name: str
    told: str = ""
    code: str = ""


class Uses:
    """One workspace's. The record's fields come in order of their buckets, as of one cut; the hashes are read page by
    page beside them."""

    at_once = ITEMS_A_LOOK // 2

    def __init__(self, examiner: Examiner, there: set[int] | None) -> None:
        """`there` are the buckets of orders and gifts, where not all of them have to be read."""
        self._examiner, self._looker, self._there = examiner, examiner.looker, there
        self._workspace, self._partition = examiner.workspace, examiner.partition
        self._w = key_names.prefix(self._partition, self._workspace)

    async def compare(self, done: Callable[[int], None]) -> None:
        """All of it; `done` is told how many fields were compared."""
        cut = await self._examiner.cut()
        about = (self._partition, self._workspace, *cut.at, None, None, None)
        async with aclosing(pages(self._examiner, "uses_in_order", about, self._there)) as some:
            async for buckets, rows in some:
                await self._page(buckets, rows)
                done(sum("/" not in row[2] for row in rows))

    async def _page(self, buckets: list[int], rows: list[Any]) -> None:
        suspects: list[Field] = []
        for kind in "og":
            found = await self._looker.read([("HGETALL", _BUCKETS[kind](self._w, bucket)) for bucket in buckets])
            here = {
                bucket: dict(zip(flat[::2], flat[1::2], strict=True))
                for bucket, flat in zip(buckets, found, strict=True)
            }
            for bucket, of, field, said in rows:
                if of == kind and here[bucket].pop(field, None) != said:
                    suspects.append(Field(kind, bucket, field, said))
            for bucket, left in here.items():
                for name, said in left.items():
                    if kind == "g":
                        suspects.append(Field(kind, bucket, name, code=parse_gift(said).code))
                    elif not is_nothing(said):
                        suspects.append(Field(kind, bucket, name))
        if suspects:
            await self._examiner.examine(self, suspects)

    def items(self, thing: Field) -> Sequence[Item]:
        """See Kind."""
        items = [Item("h", _BUCKETS[thing.kind](self._w, thing.bucket), thing.name)]
        return [*items, Item("s", key_names.coupon(self._w, thing.code))] if thing.code else items

    async def said(self, at: EventId, things: Sequence[Field]) -> dict[Field, str]:
        """See Kind."""
        orders = [decode_id(thing.name) for thing in things if "/" not in thing.name]
        users = [decode_id(thing.name.partition("/")[2]) for thing in things if "/" in thing.name]
        events = [event for thing in things if thing.kind == "o" and "/" not in thing.name for event in _events(thing)]
        pool = self._examiner.pool
        found = await record.uses(pool, self._partition, self._workspace, at, orders, users, events)
        return {Field(use.kind, use.bucket, use.field): use.said for use in found}

    def judge(
        self, thing: Field, said: dict[Field, str], seen: Seen, values: Sequence[Any]
    ) -> Difference | Later | None:
        """See Kind."""
        del seen
        found, expected = values[0], said.get(thing._replace(told="", code=""))
        if found == expected or (expected is None and (found is None or is_nothing(found))):
            return None
        if thing.code and expected is None and not _stands(found, values[1]):
            return None
        class_: Class = "gifts" if thing.kind == "g" else "user_counts" if "/" in thing.name else "orders"
        key = _BUCKETS[thing.kind](self._w, thing.bucket)
        write = Write("h", key, thing.name, found, expected)
        book, _, name = thing.name.rpartition("/")
        shown_name = f"user {mask(name)} in book {book}" if book else f"order {mask(name)}"
        about = [About("user" if book else "order", name)]
        if thing.code:
            about.append(About("code", thing.code))
        return Difference((class_,), shown_name, [write], about=about)


def _stands(gift: str, record: str | None) -> bool:
    """Whether a gift's coupon is still who it was given to; an entry whose coupon was taken back is as good as none."""
    coupon, given = parse_coupon_record(record) if record else None, parse_gift(gift)
    return coupon is not None and (coupon.user, coupon.assigned_at) == (given.user, given.assigned_at)


def _events(order: Field) -> list[EventId]:
    """The events of an order's places."""
    return [place.event for place in parse_places(order.told)]
