"""Read and free in Postgres the orders that are forgotten: older than their workspace's days, so that their ids may be
used anew (docs/decisions/0050-forgotten-orders.md). The sweep (service/worker/order_forgetter.py) frees them, and
retirements.py frees places; moves, openings and comparisons read from when orders are remembered."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import asyncpg

from service.domain.uuids import first_id
from service.formats.event_id import EventId
from service.record.partitions.partition_rows import under_lease
from service.record.pool import Database
from service.record.queries import query


class Memory(NamedTuple):
    """What a live workspace remembers: orders of so many days, since a moment, 0 for all. Times in ms since 1970."""

    workspace: int
    since_ms: int
    created_ms: int
    days: int
    now_ms: int


class Period(NamedTuple):
    """A time of some workspaces, from `from_ms` up to but not including `to_ms`."""

    workspaces: list[int]
    from_ms: int
    to_ms: int


class PastPlace(NamedTuple):
    """An order's place, by its redemption."""

    workspace: int
    order: str
    redemption_id: UUID
    event: EventId


class PastGift(NamedTuple):
    """An order's gift, by its assignment."""

    workspace: int
    order: str
    code: str
    at_ms: int
    event: EventId


async def read_memories(database: Database, partition: int) -> list[Memory]:
    """What each live workspace of a partition remembers."""
    rows = await database.fetch(query("read_orders_since"), partition)
    return [Memory(w, since_ms or 0, *rest) for w, since_ms, *rest in rows]


async def read_orders_since(database: Database, partition: int) -> dict[int, int]:
    """The workspaces of a partition that have forgotten orders, and the time (ms) since when they remember them."""
    return {each.workspace: each.since_ms for each in await read_memories(database, partition) if each.since_ms}


async def page_places(
    database: Database, partition: int, period: Period, after: UUID | None, limit: int
) -> list[PastPlace]:
    """The next places from a period, by redemption id, after this one."""
    bounds = (after or first_id(period.from_ms), first_id(period.to_ms))
    rows = await database.fetch(query("page_places_between"), partition, period.workspaces, *bounds, limit)
    return [PastPlace(w, order, own_id, EventId(*event)) for w, order, own_id, *event in rows]


async def page_gifts(
    database: Database, partition: int, period: Period, after: PastGift | None, limit: int
) -> list[PastGift]:
    """The next gifts from a period, by time and event, after this one; also those that were taken back."""
    at = (after.at_ms, *after.event) if after else (period.from_ms, -1, -1)
    rows = await database.fetch(query("page_gifts_between"), partition, period.workspaces, period.to_ms, *at, limit)
    return [PastGift(w, order, code, at_ms, EventId(*event)) for w, order, code, at_ms, *event in rows]


async def forget(
    pool: asyncpg.Pool, partition: int, fence: int, places: Sequence[PastPlace], gifts: Sequence[PastGift]
) -> None:
    """Let the orders' ids be used anew, in Postgres. Raises LeaseLost."""
    async with under_lease(pool, partition, fence) as connection:
        await free_orders(connection, [place[:3] for place in places])
        if gifts:
            columns = zip(*((gift.workspace, gift.order, gift.code, *gift.event) for gift in gifts), strict=True)
            await connection.execute(query("forget_gifts"), *columns)


async def free_orders(database: Database, places: Sequence[tuple[int, str, UUID]]) -> None:
    """Free these places: workspaces, orders, and redemptions."""
    if places:
        workspaces, orders, redemptions = zip(*places, strict=True)
        await database.execute(query("free_orders"), workspaces, orders, list(map(str, redemptions)))


async def advance(pool: asyncpg.Pool, partition: int, fence: int, period: Period) -> None:
    """Store that all orders up to the period's end are forgotten. Raises LeaseLost."""
    async with under_lease(pool, partition, fence) as connection:
        await connection.execute(query("advance_orders_since"), period.workspaces, period.to_ms)
