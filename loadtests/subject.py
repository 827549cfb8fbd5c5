"""A service under measure: its stock, what a load of it costs each process, and how far its record falls behind."""

import asyncio
import contextlib
import os
import time
import urllib.request
from collections import deque
from collections.abc import AsyncIterator
from http.client import HTTPResponse
from typing import Any, NamedTuple

import asyncpg
import msgspec
from redis.asyncio import Redis

from loadtests import generator
from loadtests.generator import Load
from loadtests.own import Meter
from loadtests.target import Target, new_id
from loadtests.wire import Ask, Barrage
from service.engine.formats.event_id import EventId, parse_event_id
from service.engine.formats.key_names import outbox
from tests.harness.running import Run

ADMIN, CHECKOUT = "demo_admin", "demo_checkout"
PATIENCE_S, RECORDED_S = 900.0, 120.0
"""For an upload or an export, and for the record of what was decided."""
POLL_S = 0.05
AT_ONCE = 250_000
"""Codes of one upload."""
DISCOUNT = {"type": "percentage", "value": 15, "maxAmount": 50, "minOrderValue": 20, "currency": "USD"}
RULES: dict[str, Any] = {"discount": DISCOUNT, "maxRedemptionsPerUser": 5}
"""Of a book whose redemptions have all that a shop asks for."""
_PARTITION = "SELECT partition FROM workspaces WHERE name = 'demo'"
_CURSOR = "SELECT cursor_epoch, cursor_seq FROM partitions WHERE id = $1"
_SIZES = """
SELECT pg_database_size(current_database()) AS postgres,
  (SELECT sum(pg_relation_size(indexrelid)) FROM pg_index)::bigint AS indexes,
  (pg_current_wal_lsn() - '0/0')::bigint AS wal
"""
_OF_BOOK = "WHERE (workspace, book) = (SELECT workspace, book FROM books WHERE book_id = $1)"
_REDEEMED = f"SELECT count(*), count(DISTINCT code), count(DISTINCT redemption_id) FROM redemptions {_OF_BOOK}"
_ASSIGNED = f"SELECT count(*), count(DISTINCT code), count(DISTINCT user_id) FROM assignments {_OF_BOOK}"


class Stock(msgspec.Struct):
    """A book of single-use codes that are `prefix` and a number; so many were taken."""

    book_id: str
    prefix: str
    codes: int
    taken: int = 0

    @property
    def left(self) -> int:
        return self.codes - self.taken

    @property
    def options(self) -> dict[str, Any]:
        """What the generator must know of it."""
        run = f"{self.prefix[-6:-1]}{self.taken}".lower()
        return {"codes": self.codes, "first": self.taken, "prefix": self.prefix, "run": run}


class Spent(NamedTuple):
    """What a load took of each process until all of it was recorded, and the longest that the record was behind."""

    load: Load
    cpu_s: dict[str, float]
    lag_s: float
    machine_load: float
    grown_bytes: dict[str, float]
    """By how much each of Subject.sizes grew."""


class Subject:
    """A `scrip run` of our own, alone with what measures it."""

    def __init__(self, run: Run, redis: Redis, postgres: asyncpg.Connection, partition: int) -> None:
        """`partition` is that of the workspace `demo`."""
        self.run, self.target = run, target_of(run.url)
        self.redis, self.postgres, self._partition = redis, postgres, partition

    async def stock(self, codes: int, full: bool) -> Stock:
        """A new book of so many codes. AssertionError where one is missing."""
        book_id = await self.target.book(**RULES if full else {})
        stock = Stock(book_id, f"B{book_id[-12:].upper()}-", codes)
        for start in range(0, codes, AT_ONCE):
            many = min(AT_ONCE, codes - start)
            await asyncio.to_thread(upload, self.run.url, book_id, [f"{stock.prefix}{start + n}" for n in range(many)])
        return stock

    async def sizes(self) -> dict[str, float]:
        """Bytes that the stores hold and move. `redis`: memory without the outbox. `outbox`: the memory of all events
        that the outbox ever had, by the mean of those that it has. `network`: bytes that Redis received and sent.
        `postgres`: all tables and indexes, of which `indexes` are the indexes. `wal`: Postgres's log."""
        stream = outbox(self._partition)
        info = await self.redis.info()
        held_bytes = int(await self.redis.memory_usage(stream, samples=0) or 0)
        entries = await self.redis.xinfo_stream(stream)
        row: Any = await self.postgres.fetchrow(_SIZES)
        return {
            "redis": info["used_memory"] - held_bytes,
            "outbox": held_bytes / max(entries["length"], 1) * entries["entries-added"],
            "network": info["total_net_input_bytes"] + info["total_net_output_bytes"],
            **{name: float(size) for name, size in row.items()},
        }

    async def caught_up(self) -> None:
        """Wait until all that Redis has decided is recorded; TimeoutError after two minutes."""
        async with self._watched():
            pass

    async def pairs(self, stock: Stock, connections: int, count: int, seconds: int, full: bool) -> Spent:
        """Lock and redeem so many of a book's codes, within so many seconds."""
        limits: dict[str, Any] = {"seconds": seconds, "connections": connections, "count": count}
        spent = await self._measured("pairs", full=full, **limits, **stock.options)
        stock.taken += spent.load.latency_us["lock"].count if "lock" in spent.load.latency_us else 0
        return spent

    async def opening(self, buyers: int, connections: int, refusal: str, **wanted: str) -> Spent:
        """Buyers who all come within a second, for a `book`'s codes or one `code`'s uses."""
        options: dict[str, Any] = {"count": buyers, "within_ms": 1000, "refusal": refusal} | wanted
        return await self._measured("opening", seconds=60, connections=connections, **options)

    async def redeemed(self, book_id: str) -> tuple[int, int, int]:
        """Of a book in Postgres: redemptions, codes among them, ids among them."""
        row: Any = await self.postgres.fetchrow(_REDEEMED, book_id)
        return tuple(row)

    async def assigned(self, book_id: str) -> tuple[int, int, int]:
        """Of a book in Postgres: assignments, codes among them, users among them."""
        row: Any = await self.postgres.fetchrow(_ASSIGNED, book_id)
        return tuple(row)

    async def _measured(self, mode: str, *, seconds: int, full: bool = False, **options: str | int) -> Spent:
        await self.caught_up()
        before, meter = await self.sizes(), Meter(self.run)
        async with self._watched() as lags:
            load = await generator.drive(self.run.url, CHECKOUT, mode, seconds=seconds, full=full, **options)
        cpu_s, machine_load = meter.spent_s(), os.getloadavg()[0]
        return Spent(load, cpu_s, max(lags, default=0.0), machine_load, compute_growth(before, await self.sizes(), 1))

    @contextlib.asynccontextmanager
    async def _watched(self) -> AsyncIterator[list[float]]:
        """Of moments within: how many seconds what the outbox had then took to be recorded. It ends when everything is
        recorded; TimeoutError after two minutes."""
        seen: list[float] = []
        ended = asyncio.Event()
        watching = asyncio.create_task(self._watch(seen, ended))
        try:
            yield seen
            ended.set()
            done, _ = await asyncio.wait([watching], timeout=RECORDED_S)
            if not done:
                raise TimeoutError(f"not everything was recorded {RECORDED_S:.0f} s after it was decided")
            await watching
        finally:
            watching.cancel()

    async def _watch(self, seen: list[float], ended: asyncio.Event) -> None:
        last = False
        waiting: deque[tuple[float, EventId]] = deque()
        while not last or waiting:
            if not last:
                last = ended.is_set()
                tail: Any = await self.redis.xrevrange(outbox(self._partition), count=1)
                waiting.append((time.monotonic(), parse_event_id(tail[0][0].decode())))
            row: Any = await self.postgres.fetchrow(_CURSOR, self._partition)
            cursor, now = tuple(row), time.monotonic()
            while waiting and waiting[0][1] <= cursor:
                at, _ = waiting.popleft()
                seen.append(now - at)
            await asyncio.sleep(POLL_S)


@contextlib.asynccontextmanager
async def opened(run: Run) -> AsyncIterator[Subject]:
    """A running service, with connections to its servers for as long as it takes."""
    redis, postgres = Redis.from_url(run.facts["redisUrl"]), await asyncpg.connect(run.facts["databaseUrl"])
    subject = Subject(run, redis, postgres, await postgres.fetchval(_PARTITION))
    try:
        yield subject
    finally:
        subject.target.barrage.close()
        await redis.aclose()
        await postgres.close()


def compute_growth(before: dict[str, float], after: dict[str, float], many: int) -> dict[str, float]:
    """By how much each size grew, for each of so many."""
    return {name: (after[name] - size) / many for name, size in before.items()}


def target_of(url: str, at_once: int = 1) -> Target:
    """A service's books and coupons, for a key that may change all of them."""
    return Target(Barrage(url, ADMIN), at_once)


def redeem(code: str, key: str = "", mark: str = "", **more: Any) -> Ask:
    """A redemption by a new user for a new order; the mark ends the path."""
    return Ask("POST", f"/v1/coupons/redeem/{code}{mark}", {"userId": new_id(), "orderId": new_id(), **more}, key)


def upload(url: str, book_id: str, codes: list[str]) -> None:
    """Send codes as CSV, as fast as they are taken. AssertionError where not all are new."""
    body = "".join(["code\r\n", *(f"{code}\r\n" for code in codes)]).encode()
    with sent(url, f"/v1/books/{book_id}/codes", body) as answer:
        added = msgspec.json.decode(answer.read())
    assert (added["added"], added["duplicates"], added["invalid"]) == (len(codes), 0, 0), added


def sent(url: str, path: str, csv: bytes | None = None) -> HTTPResponse:
    """The answer to an upload of CSV, or to a GET, to be read."""
    headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "text/csv"}
    return urllib.request.urlopen(urllib.request.Request(f"{url}{path}", csv, headers), timeout=PATIENCE_S)
