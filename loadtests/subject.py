"""A service under measure: its stock, what a load of it costs each process, and how far its record falls behind."""

import asyncio
import contextlib
import os
import urllib.request
from collections.abc import AsyncIterator
from http.client import HTTPResponse
from typing import Any, NamedTuple

import asyncpg
import msgspec
from redis.asyncio import Redis

from loadtests import generator
from loadtests.behind import Behind
from loadtests.generator import Load
from loadtests.ground import Ground, new_id
from loadtests.own import Meter
from loadtests.sizes import compute_growth, read_sizes
from loadtests.wire import Ask, Barrage
from tests.harness.running import Run

ADMIN, CHECKOUT = "demo_admin", "demo_checkout"
PATIENCE_S = 900.0
AT_ONCE = 250_000
"""Codes of one upload."""
DISCOUNT = {"type": "percentage", "value": 15, "maxAmount": 50, "minOrderValue": 20, "currency": "USD"}
RULES: dict[str, Any] = {"discount": DISCOUNT, "maxRedemptionsPerUser": 5}
"""Of a book whose redemptions have all that a shop asks for."""
_PARTITION = "SELECT partition FROM workspaces WHERE name = 'demo'"
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
    """By how much each size of loadtests/sizes.py grew."""


class Subject:
    """A `scrip run` of our own, alone with what measures it."""

    def __init__(self, run: Run, redis: Redis, postgres: asyncpg.Connection, behind: Behind) -> None:
        self.run, self.ground = run, ground_of(run.url)
        self.redis, self.postgres, self.behind = redis, postgres, behind

    async def stock(self, codes: int, full: bool) -> Stock:
        """A new book of so many codes. AssertionError where one is missing."""
        book_id = await self.ground.book(**RULES if full else {})
        stock = Stock(book_id, f"B{book_id[-12:].upper()}-", codes)
        for start in range(0, codes, AT_ONCE):
            many = min(AT_ONCE, codes - start)
            await asyncio.to_thread(upload, self.run.url, book_id, [f"{stock.prefix}{start + n}" for n in range(many)])
        return stock

    async def sizes(self) -> dict[str, float]:
        """The bytes of loadtests/sizes.py."""
        return await read_sizes(self.redis, self.postgres, self.behind.partition)

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
        await self.behind.caught_up()
        before, meter = await self.sizes(), Meter(self.run)
        async with self.behind.watched() as lags:
            load = await generator.drive(self.run.url, CHECKOUT, mode, seconds=seconds, full=full, **options)
        cpu_s, machine_load = meter.spent_s(), os.getloadavg()[0]
        return Spent(load, cpu_s, max(lags, default=0.0), machine_load, compute_growth(before, await self.sizes(), 1))


@contextlib.asynccontextmanager
async def opened(run: Run) -> AsyncIterator[Subject]:
    """A running service, with connections to its servers for as long as it takes."""
    redis, postgres = Redis.from_url(run.facts["redisUrl"]), await asyncpg.connect(run.facts["databaseUrl"])
    subject = Subject(run, redis, postgres, Behind(redis, postgres, await postgres.fetchval(_PARTITION)))
    try:
        yield subject
    finally:
        subject.ground.barrage.close()
        await redis.aclose()
        await postgres.close()


def ground_of(url: str, at_once: int = 1) -> Ground:
    """A service's books and coupons, for a key that may change all of them."""
    return Ground(Barrage(url, ADMIN), at_once)


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
