"""A partition with an outbox in Valkey and a record in Postgres, and flushers between them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest_asyncio
from redis.asyncio import Redis

from service.engine.domain.field_types import decode_field
from service.engine.formats import key_names
from service.engine.formats.event_id import NO_EVENT
from service.engine.formats.events import encode_event, entry_digest
from service.engine.hot.outbox import Outbox
from service.engine.record.partitions.partition_rows import begin_epoch, confirm_open, enter_epoch, read_partition
from service.engine.worker.write_behind import Flusher
from tests.harness.redemptions import redeemed_text
from tests.harness.waiting import elapse, running, wait_until
from tests.integration.recording.record_fixtures import read_facts, take_partition

OUTBOX = key_names.outbox(0)
MakeFlusher = Callable[[], Awaitable[Flusher]]


class RecordedShop:
    """An open partition, to whose outbox tests append events as a script does; `appended` has all of them."""

    def __init__(self, redis: Redis, pool: asyncpg.Pool, database_url: str) -> None:
        self.redis, self.pool, self.database_url, self.epoch = redis, pool, database_url, 0
        self.appended: list[str] = []

    async def append(self, *events: str) -> None:
        async with self.redis.pipeline(transaction=False) as pipeline:
            for d in events:
                pipeline.xadd(OUTBOX, {"e": f'{d}\n{{"ip":"::1"}}'}, id=f"{self.epoch}-*", nomkstream=True)
            await pipeline.execute()
        self.appended += events

    async def sell(self, count: int) -> None:
        """Redeem so many codes with one use each."""
        start = len(self.appended)
        await self.append(*(redeemed(f"CODE-{start + i}") for i in range(count)))

    async def facts(self) -> list[str]:
        """Read the facts from Postgres, as texts of the outbox."""
        return [encode_event(fact) for fact in await read_facts(self.pool)]

    async def outbox(self) -> list[int]:
        """Read the numbers of the outbox's entries."""
        entries: Any = await self.redis.xrange(OUTBOX)
        return [int(entry_id.split(b"-")[1]) for entry_id, _ in entries]

    async def cursor(self) -> tuple[int, int]:
        return (await read_partition(self.pool, 0)).cursor

    async def quarantined(self) -> list[tuple[Any, ...]]:
        rows = await self.pool.fetch("SELECT epoch, seq, reason, d FROM quarantine ORDER BY epoch, seq")
        return [tuple(row) for row in rows]

    async def fence(self, epoch: int) -> None:
        await self.redis.xadd(OUTBOX, {"e": "O"}, id=f"{epoch}-0")
        self.epoch = epoch


def redeemed(code: str, order: str = "-", discount_e4: int = 250_000) -> str:
    """Format the event of a redemption of a code with one use."""
    return redeemed_text(
        book=2, code=code, user="user", order=decode_field(order), value_e4=1_000_000, discount_e4=discount_e4,
        at_ms=1_794_991_234_567, slot=int(order != "-"),
    )  # fmt: skip


@pytest_asyncio.fixture
async def shop(redis: Redis, pool: asyncpg.Pool, database_url: str) -> RecordedShop:
    """The only partition, open in its first epoch."""
    fence = await take_partition(pool)
    shop = RecordedShop(redis, pool, database_url)
    await shop.fence(await begin_epoch(pool, 0, fence, "nonce"))
    digest = entry_digest(f"{shop.epoch}-0".encode(), b"O")
    assert await enter_epoch(pool, 0, fence, NO_EVENT, shop.epoch, digest)
    assert await confirm_open(pool, 0, fence, shop.epoch, (await read_partition(pool, 0)).incarnation)
    return shop


@pytest_asyncio.fixture
async def make_flusher(shop: RecordedShop, valkey_url: str) -> AsyncIterator[MakeFlusher]:
    """Make flushers; each takes the lease from the one before."""
    outboxes: list[Outbox] = []

    async def make() -> Flusher:
        outboxes.append(Outbox(valkey_url, 0))
        return Flusher(outboxes[-1], shop.pool, 0, await take_partition(shop.pool))

    yield make
    for outbox in outboxes:
        outbox.close()


async def caught_up(shop: RecordedShop, flusher: Flusher) -> None:
    """Run a flusher until it has recorded everything, and knows it: Postgres shows a commit before that."""
    async with running(flusher.run()):
        await wait_until(lambda: flusher.cursor == (shop.epoch, len(shop.appended)))


@contextlib.asynccontextmanager
async def selling(shop: RecordedShop) -> AsyncIterator[None]:
    """Sell in the background while the block runs."""
    ended = asyncio.Event()

    async def sell() -> None:
        while not ended.is_set():
            await shop.sell(50)
            await elapse(0.005, "the pace of the load")

    task = asyncio.create_task(sell())
    try:
        yield
    finally:
        ended.set()
        await task


async def has_recorded(flusher: Flusher, recorded: int) -> bool:
    return flusher.cursor[1] == recorded
