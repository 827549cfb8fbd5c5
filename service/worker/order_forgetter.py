"""Forget orders after a workspace's `orderDays` (docs/decisions/0050-forgotten-orders.md). partition_worker.py runs it.
Its two times, in Postgres and in Redis, tell a next worker where to continue: each is stored after its step."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from service.domain.field_types import encode_field
from service.formats import key_names
from service.formats.coupon_state import Write
from service.formats.order_entries import parse_gift
from service.hot.inspection import Item
from service.record.facts import forgotten_orders as record
from service.record.facts.forgotten_orders import Memory, PastGift, PastPlace, Period
from service.record.pool import wait_out_outage
from service.worker.moving.book_moves import order_field, removals_of_places
from service.worker.moving.guarded_changes import GuardedChanges, ItemValues, NotYet, RedisDiffers

IDLE_S, BUSY_S, PAUSE_S = 3600.0, 10.0, 1.0
"""Pauses: when all is done; while another task or a comparison has the turn; and to let it take the turn."""
STEPS_A_TURN = 100
ORDERS_A_RUN = 200
"""A read and a write of less than a millisecond each."""
WORKSPACES_A_RUN = 400
STEP_MS, START_MS, DAY_MS = 3_600_000, 86_400_000, 86_400_000

log = structlog.get_logger()


class OrderForgetter:
    """One for each open partition. Once an hour it forgets old orders of live workspaces, an hour's at a time:

    1. The oldest hour that a workspace remembers is due once all of it is more than `orderDays` ago. Workspaces with
       the same hour go together. Wait until everything that was decided before is recorded.
    2. Delete the hour's places in Postgres (`order_uses`), and let its gifts' orders have others. Redis still refuses
       what these orders may not use.
    3. Store the hour's end in Postgres (`orders_since`). From here on a rebuild restores none of it.
    4. Delete the hour's places and gifts in Redis.
    5. Store the hour's end in Redis (`{pN}:forgotten`).

    If the worker dies, the next one repeats the hour from step 2, or from step 4 if the two times differ. A Redis that
    lost its end has an earlier time. No comparison counts during a turn, or while the times differ.
    """

    def __init__(self, changes: GuardedChanges) -> None:
        self._changes, self._inspector = changes, changes.inspector
        self._pool, self._partition, self._fence = changes.pool, changes.partition, changes.fence

    async def run(self) -> None:
        await self._inspector.start()
        while True:
            pause_s = BUSY_S
            try:
                with wait_out_outage(log):
                    pause_s = await self.forget_some()
            except (NotYet, RedisDiffers) as reason:
                log.info("forgetting_waits", partition=self._partition, reason=str(reason))
            await asyncio.sleep(pause_s)

    async def forget_some(self) -> float:
        """Forget some hours; return the pause until the next call in seconds."""
        if await self._next() is None:
            return IDLE_S
        async with self._changes.turn() as is_ours:
            if not is_ours:
                return BUSY_S
            for _ in range(STEPS_A_TURN):
                work = await self._next()
                if work is None:
                    return IDLE_S
                step, period = work
                await step(period)
        return PAUSE_S

    async def _next(self) -> tuple[Callable[[Period], Awaitable[None]], Period] | None:
        """The next step and its period; first what an earlier worker left half-done."""
        memories = await record.read_memories(self._pool, self._partition)
        here = await self._inspector.orders_since()
        behind, due = dict[int, tuple[int, int]](), dict[int, tuple[int, int]]()
        for each in memories:
            since_ms = here.get(each.workspace, 0)
            if since_ms < each.since_ms:
                behind[each.workspace] = since_ms or _start_of(each), each.since_ms
            elif (end := _end_of_next_hour(each)) is not None:
                due[each.workspace] = each.since_ms or _start_of(each), end
        if behind:
            return self._forget_in_redis, _first_period(behind)
        return (self._forget_in_postgres, _first_period(due)) if due else None

    async def _forget_in_postgres(self, period: Period) -> None:
        await self._changes.wait_until_recorded((await self._inspector.read_values([])).at)
        place: PastPlace | None = None
        while places := await self._places(period, place):
            await record.forget(self._pool, self._partition, self._fence, places, [])
            place = places[-1]
        gift: PastGift | None = None
        while gifts := await record.page_gifts(self._pool, self._partition, period, gift, ORDERS_A_RUN):
            await record.forget(self._pool, self._partition, self._fence, [], gifts)
            gift = gifts[-1]
        await record.advance(self._pool, self._partition, self._fence, period)

    async def _forget_in_redis(self, period: Period) -> None:
        orders, place, gift = 0, None, None
        while places := await self._places(period, place):
            await self._remove_places(places)
            orders, place = orders + len(places), places[-1]
        while gifts := await record.page_gifts(self._pool, self._partition, period, gift, ORDERS_A_RUN):
            await self._remove_gifts(gifts)
            orders, gift = orders + len(gifts), gifts[-1]
        await self._store_time(period)
        if orders:
            log.info("orders_forgotten", partition=self._partition, until_ms=period.to_ms, orders=orders)

    async def _places(self, period: Period, after: PastPlace | None) -> list[PastPlace]:
        redemption = after.redemption_id if after else None
        return await record.page_places(self._pool, self._partition, period, redemption, ORDERS_A_RUN)

    async def _remove_places(self, places: Sequence[PastPlace]) -> None:
        orders = {order_field(self._prefix(place.workspace), place.order) for place in places}
        events = {place.event for place in places}
        await self._changes.change(list(orders), lambda seen: removals_of_places(orders, events, seen))

    async def _remove_gifts(self, gifts: Sequence[PastGift]) -> None:
        fields = {self._gift_field(gift): (gift.code, str(gift.at_ms)) for gift in gifts}
        await self._changes.change(list(fields), lambda seen: _removals_of_gifts(fields, seen))

    async def _store_time(self, period: Period) -> None:
        key = key_names.forgotten(self._partition)
        items, to = [Item("h", key, str(workspace)) for workspace in period.workspaces], str(period.to_ms)
        await self._changes.change(items, lambda seen: [item.change(seen[item], to) for item in items])

    def _gift_field(self, gift: PastGift) -> Item:
        word = encode_field(gift.order)
        return Item("h", key_names.gifts(self._prefix(gift.workspace), key_names.bucket(word)), word)

    def _prefix(self, workspace: int) -> str:
        return key_names.prefix(self._partition, workspace)


def _first_period(periods: Mapping[int, tuple[int, int]]) -> Period:
    """The oldest of the workspaces' periods, with workspaces that have the same."""
    first = min(periods.values())
    group = [workspace for workspace, period in periods.items() if period == first]
    return Period(group[:WORKSPACES_A_RUN], *first)


def _start_of(memory: Memory) -> int:
    """A full hour from before the first order of a workspace, START_MS before its creation."""
    return memory.created_ms // STEP_MS * STEP_MS - START_MS


def _end_of_next_hour(memory: Memory) -> int | None:
    """The end of the oldest hour that is remembered, if it is due."""
    end = (memory.since_ms or _start_of(memory)) + STEP_MS
    return end if end <= memory.now_ms - memory.days * DAY_MS else None


def _removals_of_gifts(fields: Mapping[Item, tuple[str, str]], seen: ItemValues) -> list[Write]:
    """The removal of the orders' entries that have these codes, assigned at these times."""
    writes: list[Write] = []
    for field, gift in fields.items():
        text = seen[field]
        if text is not None and (given := parse_gift(text)) and (given.code, given.assigned_at) == gift:
            writes.append(field.change(text, None))
    return writes
