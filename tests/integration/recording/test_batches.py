"""Batches of events: legal orders are recorded together, as if one by one; what can't be is split in few parts."""

import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from service.engine.formats.event_id import NO_EVENT
from service.engine.formats.events import Event, Redeemed, RequestPart, RolledBack, encode_event
from service.engine.record.partitions.partition_rows import begin_epoch, ensure_partitions, enter_epoch
from service.engine.record.pool import connect
from service.engine.worker.write_behind import Flusher
from tests.integration.recording.flush_fixtures import MakeFlusher, RecordedShop
from tests.integration.recording.record_fixtures import (
    EVENT_MS,
    Record,
    assigned,
    make_workspace,
    redeemed,
    rolled_back,
    take_partition,
    unassigned,
)

_TABLES = (
    "assignments open_assignments unassignments redemptions rollbacks order_uses single_uses idempotency_keys "
    "report_sums report_users card_sums"
).split()
SINGLES, MULTIPLE = [f"ONCE-{n}" for n in range(6)], [f"MANY-{n}" for n in range(3)]
PLACES = {1, 2, 3}


class Story:
    """Events at random, in an order in which the scripts may write them: few codes, users and orders."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self.events: list[Event] = []
        self._standing: list[Redeemed] = []
        self._spent: list[Redeemed] = []
        """Rolled back without `restore`: their places and uses stay taken."""
        self._owners: dict[str, str] = {}

    def write(self, count: int) -> list[Event]:
        """Write so many events."""
        while len(self.events) < count:
            self._draw.choice(
                (self._redeem, self._redeem, self._roll_back, self._roll_back, self._assign, self._unassign)
            )()
        return self.events

    def _append(self, event: Any) -> None:
        self.events.append(event)

    def _request(self) -> dict[str, Any]:
        number = len(self.events)
        more: dict[str, Any] = {"at_ms": EVENT_MS + number}
        if self._draw.random() < 0.3:
            more |= {"request": RequestPart(key=f"key-{number}", op="redeem"), "kept": f"{number:032x} 1 @1-1"}
        return more

    def _redeem(self) -> None:
        taken = self._standing + self._spent
        order = self._draw.choice((None, "o1", "o2", "o3"))
        places = [
            int(place) for place in PLACES if not any(use.order == order and use.slot == int(place) for use in taken)
        ]
        codes = [code for code in SINGLES if all(use.code != code for use in taken)] + MULTIPLE
        if order and not places:
            return
        code, gift = self._draw.choice(codes), None
        if order and f"GIFT-{order}" not in self._owners and self._draw.random() < 0.2:
            gift = assigned(f"GIFT-{order}")
        use = redeemed(
            code, order=order, slot=self._draw.choice(places) if order else 0, max_uses=int(code in SINGLES), gift=gift,
            **self._request(),
        )  # fmt: skip
        if gift:
            self._owners[gift.code] = gift.user
        self._standing.append(use)
        self._append(use)

    def _roll_back(self) -> None:
        if self._standing:
            use = self._standing.pop(self._draw.randrange(len(self._standing)))
            restore = self._draw.random() < 0.9
            if not restore:
                self._spent.append(use)
            self._append(rolled_back(use, restore))

    def _assign(self) -> None:
        if free := [code for code in SINGLES if code not in self._owners]:
            self._owners[code := self._draw.choice(free)] = user = self._draw.choice(("ann", "bob"))
            self._append(assigned(code, user, **self._request()))

    def _unassign(self) -> None:
        if self._owners:
            code = self._draw.choice(list(self._owners))
            self._append(unassigned(code, self._owners.pop(code), EVENT_MS + len(self.events)))


@pytest_asyncio.fixture
async def records(new_database: Callable[..., Awaitable[str]], template: str) -> AsyncIterator[tuple[Record, Record]]:
    """Two records, each of a database of its own, in the same epoch."""
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(2):
            pool = await stack.enter_async_context(await connect(await new_database(template)))
            await ensure_partitions(pool, 1)
            await make_workspace(pool)
            fence = await take_partition(pool)
            epoch = await begin_epoch(pool, 0, fence, "nonce")
            assert await enter_epoch(pool, 0, fence, NO_EVENT, epoch, b"first")
            made.append(Record(pool, fence, epoch))
        yield made[0], made[1]


async def _read_tables(record: Record) -> dict[str, list[str]]:
    """The rows of all tables, without when they were written."""
    return {
        table: [
            row[0]
            for row in await record.pool.fetch(
                f"SELECT (to_jsonb(t) - 'recorded_at')::text FROM {table} AS t ORDER BY 1"
            )
        ]
        for table in _TABLES
    }


@pytest.mark.parametrize("seed", range(4))
async def test_a_legal_order_is_recorded_in_batches_as_one_by_one(records: tuple[Record, Record], seed: int) -> None:
    """Events in an order in which scripts write them are never refused as a batch, and its rows are the same."""
    draw, story, (alone, together) = random.Random(seed), Story(seed).write(400), records
    for event in story:
        assert await alone.write(event)
    cuts = sorted(draw.sample(range(1, len(story)), draw.choice((3, 12, 60))))
    for begin, end in pairwise([0, *cuts, len(story)]):
        assert await together.write(*story[begin:end])
    assert await _read_tables(alone) == await _read_tables(together)


async def _flush(flusher: Flusher) -> list[int]:
    """Record everything; return how many events each transaction recorded."""
    sizes: list[int] = []
    commit = flusher._commit

    async def count(to: int, *rest: Any) -> None:
        before = flusher.cursor.seq
        sizes.append(to - before)
        await commit(to, *rest)

    flusher._commit = count  # type: ignore[method-assign, assignment]
    while await flusher.step():
        pass
    return sizes


def _texts(events: Sequence[Any], epoch: int, first: int) -> list[str]:
    """The events with their numbers, as the outbox has them."""
    ids: dict[str, str] = {}
    texts = []
    for seq, event in enumerate(events, first):
        numbered = msgspec.structs.replace(event, epoch=epoch, seq=seq)
        if isinstance(event, Redeemed):
            ids[event.redemption_id] = numbered.redemption_id
        elif isinstance(event, RolledBack):
            numbered = msgspec.structs.replace(numbered, redemption_id=ids[event.redemption_id])
        texts.append(encode_event(numbered))
    return texts


@pytest.mark.parametrize("orders", [500, 1])
async def test_a_coupon_is_exchanged_in_many_orders(shop: RecordedShop, make_flusher: MakeFlusher, orders: int) -> None:
    """An order takes a second coupon, and then gives its first back: 1,000 of these events are one transaction."""
    old = [redeemed(f"OLD-{n}", order=f"o{n}") for n in range(orders)]
    events: list[Event] = []
    standing = list(old)
    for number in range(500):
        before = standing[number % orders]
        standing[number % orders] = new = redeemed(f"NEW-{number}", order=before.order, slot=3 - before.slot)
        events += [new, rolled_back(before)]
    texts = _texts([*old, *events], shop.epoch, 1)
    await shop.append(*texts[:orders])
    flusher = await make_flusher()
    await flusher.start()
    assert await _flush(flusher) == [orders]
    await shop.append(*texts[orders:])
    assert await _flush(flusher) == [1000]
    assert await shop.facts() == shop.appended
    assert await shop.pool.fetchval("SELECT count(*) FROM order_uses") == orders
    assert await shop.quarantined() == []


async def test_a_refused_event_is_found_by_halves(shop: RecordedShop, make_flusher: MakeFlusher) -> None:
    """Of 1,000 events one is refused: it is found in few transactions, and all others are recorded."""
    events = [redeemed(f"CODE-{n}", order=f"o{n}") for n in range(1000)]
    events[700] = redeemed("CODE-7")
    await shop.append(*_texts([*events], shop.epoch, 1))
    flusher = await make_flusher()
    await flusher.start()
    sizes = await _flush(flusher)
    assert len(sizes) <= 2 * math.ceil(math.log2(1000)) + 2
    assert [row[1] for row in await shop.quarantined()] == [701]
    assert len(await shop.facts()) == 999


async def test_events_that_one_transaction_cant_check_are_split_there(
    shop: RecordedShop, make_flusher: MakeFlusher
) -> None:
    """Codes that are assigned and taken back under another name, as during a deletion: a part ends at each."""
    events: list[Event] = [assigned(f"CODE-{n}") for n in range(300)]
    events[100:100] = [assigned("CODE-X", "ann")]
    events[200:200] = [unassigned("CODE-X", "ann")]
    events[250:250] = [unassigned("CODE-X", "bob")]
    await shop.append(*_texts(events, shop.epoch, 1))
    flusher = await make_flusher()
    await flusher.start()
    sizes = await _flush(flusher)
    assert sizes[0:2] == [303, 250]
    assert [row[1] for row in await shop.quarantined()] == [251]
