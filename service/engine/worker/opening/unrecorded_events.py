"""The outbox's events that the record lacks. partition_opening.py quarantines them, surplus_survey.py examines them.
Both streams are read once, in the order of events."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import NamedTuple

import asyncpg

from service.engine.formats.event_id import EventId
from service.engine.formats.events import Event, Fact, is_same_event, parse_entry
from service.engine.hot.redis_server import Server
from service.engine.record.facts.fact_reader import events_in_order
from service.engine.record.facts.surplus_rows import NamedEvent, find_known_events
from service.engine.record.partitions.partition_rows import read_partition

PAGE_EVENTS = 500

OPENING_KINDS, FACT_KINDS = (b"O", b"M"), (b"A", b"U", b"R", b"B")
"""The letters of events that begin an epoch or end a recovery, and of those that change a coupon's state."""


class OutboxEvent(NamedTuple):
    """An entry of the outbox; `kept` is its line `i`, and `event` is None if it can't be read."""

    at: EventId
    event: Event | None
    d: bytes
    r: bytes
    kept: bytes | None


async def unrecorded_events(
    server: Server, pool: asyncpg.Pool, before: EventId
) -> AsyncGenerator[list[OutboxEvent], None]:
    """Pages of the outbox's events before one that are neither recorded nor in quarantine. Close it."""
    cursor, suspects = (await read_partition(pool, server.partition)).cursor, list[OutboxEvent]()
    first = await first_event(server)
    if first is None:
        return
    after = EventId(first.epoch, first.seq - 1)
    async with (
        pool.acquire() as connection,
        aclosing(events_in_order(connection, server.partition, after=after)) as recorded,
    ):
        fact = await anext(recorded, None)
        async for at, (d, r, kept) in server.entries():
            kind = d[:1]
            if at >= before or kind in OPENING_KINDS or (at <= cursor and kind not in FACT_KINDS):
                continue
            while fact and fact.id < at:
                fact = await anext(recorded, None)
            event = parse_entry(at, d, r)
            if is_same_event(event, fact):
                continue
            suspects.append(OutboxEvent(at, event, d, r, kept))
            if len(suspects) == PAGE_EVENTS:
                yield await _without_known(pool, server.partition, suspects)
                suspects = []
    if suspects:
        yield await _without_known(pool, server.partition, suspects)


async def first_event(server: Server) -> EventId | None:
    """The outbox's first event that begins no epoch and ends no recovery."""
    async for at, (d, _, _) in server.entries():
        if d[:1] not in OPENING_KINDS:
            return at
    return None


async def _without_known(pool: asyncpg.Pool, partition: int, events: Sequence[OutboxEvent]) -> list[OutboxEvent]:
    """Without facts that are recorded, or in quarantine already."""
    facts = [
        NamedEvent(one.at, fact.workspace, fact.code, fact.at_ms, one.d)
        for one in events
        if isinstance(fact := one.event, Fact)
    ]
    known = await find_known_events(pool, partition, facts)
    return [one for one in events if one.at not in known]
