"""A service under measure: its stock, what a load of it costs each process, and how far its record falls behind."""

import asyncio
import contextlib
import os
import urllib.request
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import asyncpg
import msgspec
from redis.asyncio import Redis

from loadtests import generator
from loadtests.behind import Behind, longest_s
from loadtests.generator import Load
from loadtests.own import cpu_s
from loadtests.wire import Barrage
from tests.running import Run

ADMIN, CHECKOUT = "demo_admin", "demo_checkout"
PARTS = {"api": ("api", "apiSupervisor"), "redis": ("redis",), "worker": ("worker",), "postgres": ("postgres",)}
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


class Spent(NamedTuple):
    """What a load took of each process until all of it was recorded, and the longest that the record was behind."""

    load: Load
    cpu_s: dict[str, float]
    lag_s: float
    lags: list[tuple[float, float]]
    """How far behind it was (seconds from the beginning, seconds)."""
    machine_load: float


class Subject:
    """A `scrip run` of our own, alone with what measures it."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._pids: dict[str, list[int]] = run.facts["pids"]

    async def open(self) -> "Subject":
        """Connect to its servers."""
        self._postgres = await asyncpg.connect(self.run.facts["databaseUrl"])
        self._redis = Redis.from_url(self.run.facts["redisUrl"])
        self.behind = Behind(self._redis, self._postgres, await self._postgres.fetchval(_PARTITION))
        return self

    async def close(self) -> None:
        """End the connections."""
        await self._redis.aclose()
        await self._postgres.close()

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One request that must succeed."""
        with contextlib.closing(Barrage(self.run.url, ADMIN)) as barrage:
            return (await barrage.one(method, path, body)).body

    async def stats(self, book_id: str) -> dict[str, Any]:
        """A book's counts, of Redis."""
        return await self.ask("GET", f"/v1/books/{book_id}/stats")

    async def stock(self, codes: int, full: bool, stocked: Callable[[int], None]) -> Stock:
        """A new book of so many codes; `stocked` hears of each upload. AssertionError where one is missing."""
        rules = RULES if full else {}
        book_id = (await self.ask("POST", "/v1/books", {"name": "Bench"} | rules))["bookId"]
        stock = Stock(book_id, f"B{book_id[-12:].upper()}-", codes)
        for start in range(0, codes, AT_ONCE):
            many = min(AT_ONCE, codes - start)
            lines = "".join(f"{stock.prefix}{number}\n" for number in range(start, start + many))
            told = await asyncio.to_thread(_uploaded, self.run.url, book_id, f"code\n{lines}".encode())
            assert told["added"] == many, told
            stocked(many)
        return stock

    async def used_bytes(self) -> int:
        """What Redis says of its memory."""
        return int((await self._redis.info("memory"))["used_memory"])

    async def pairs(self, stock: Stock, connections: int, count: int, seconds: int, full: bool) -> Spent:
        """Lock and redeem so many of a book's codes, within so many seconds."""
        first, run = stock.taken, f"{stock.prefix[-6:-1]}{stock.taken}".lower()
        spent = await self._measured(
            "pairs", seconds=seconds, full=full, connections=connections, count=count, codes=stock.codes,
            first=first, prefix=stock.prefix, run=run,
        )  # fmt: skip
        stock.taken += spent.load.latency_us["lock"].count if "lock" in spent.load.latency_us else 0
        return spent

    async def opening(self, buyers: int, connections: int, refusal: str, **wanted: str) -> Spent:
        """Buyers who all come within a second, for a `book`'s codes or one `code`'s uses."""
        options: dict[str, Any] = {"count": buyers, "within_ms": 1000, "refusal": refusal} | wanted
        return await self._measured("opening", seconds=60, connections=connections, **options)

    async def redeemed(self, book_id: str) -> tuple[int, int, int]:
        """Of a book in Postgres: redemptions, codes among them, ids among them."""
        row: Any = await self._postgres.fetchrow(_REDEEMED, book_id)
        return tuple(row)

    async def assigned(self, book_id: str) -> tuple[int, int, int]:
        """Of a book in Postgres: assignments, codes among them, users among them."""
        row: Any = await self._postgres.fetchrow(_ASSIGNED, book_id)
        return tuple(row)

    async def _measured(self, mode: str, *, seconds: int, full: bool = False, **options: str | int) -> Spent:
        await self.behind.caught_up()
        before = self._cpu_s()
        async with self.behind.watched() as lags:
            load = await generator.drive(self.run.url, CHECKOUT, mode, seconds=seconds, full=full, **options)
        after = self._cpu_s()
        cpu = {part: after[part] - before[part] for part in PARTS}
        return Spent(load, cpu, longest_s(lags), lags, os.getloadavg()[0])

    def _cpu_s(self) -> dict[str, float]:
        return {
            part: sum(cpu_s(pid) for name in names for pid in self._pids.get(name, ())) for part, names in PARTS.items()
        }


@contextlib.asynccontextmanager
async def opened(run: Run) -> AsyncIterator[Subject]:
    """A running service, with connections to its servers for as long as it takes."""
    subject = await Subject(run).open()
    try:
        yield subject
    finally:
        await subject.close()


def _uploaded(url: str, book_id: str, body: bytes) -> Any:
    headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "text/csv"}
    request = urllib.request.Request(f"{url}/v1/books/{book_id}/codes", body, headers)
    with urllib.request.urlopen(request, timeout=600) as answer:
        return msgspec.json.decode(answer.read())
