"""What a tenant may store that is large, and what an opening, or the deletion of a user, then takes:
`python -m loadtests.recovery --heavy`."""

import asyncio
import contextlib
import secrets
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

import asyncpg
import psutil
import redis

from loadtests.ground import Ground, new_codes, new_id
from loadtests.wire import Answer, Ask
from service.hot.workspace import packed_answer
from tests.running import Run

LARGE_BYTES, LARGE = 900_000, 1_000
MIDDLE_BYTES, MIDDLE = 52_000, 8_000
PLACES, BOOKS_OF_A_USER = 100, 5_000
AT_ONCE = 25
LOOK_S = 0.01
ROUNDS, CLAIM_S = 3, 61.0
"""A claim whose request's outcome isn't known ends after a minute."""
MIB = 1 << 20

_PLANT = """
INSERT INTO idempotency_keys (workspace, key, op, partition, epoch, seq, at, entry)
SELECT $1, $2 || n, 'request', $3, 0, n, now(), md5(n::text) || ' 0 200 - ' || $5 FROM generate_series(1, $4::int) AS n
"""

_USED = """
INSERT INTO single_uses SELECT workspace, $1, gen_random_uuid() FROM workspaces WHERE name = 'demo'
"""


class Heavy(NamedTuple):
    """What one load took: how long the partition was closed, the longest that a script held Redis, and that a PING
    waited (for scripts, or for a sync of Redis's file), and the worker's most memory."""

    name: str
    closed_s: float
    script_ms: float
    redis_ms: float
    worker_mib: float
    before_mib: float


class Watched:
    """From the outside, while something happens: how long Redis takes to answer at worst, and the worker's memory."""

    def __init__(self, run: Run) -> None:
        self._url = run.facts["redisUrl"]
        (pid,) = run.facts["pids"]["worker"]
        self._worker, self._over = psutil.Process(pid), threading.Event()
        self.script_ms, self.redis_ms, self.most_bytes = 0.0, 0.0, 0
        self.before_bytes = self._worker.memory_info().rss
        self._threads = [threading.Thread(target=look, daemon=True) for look in (self._ask, self._weigh)]

    def __enter__(self) -> Self:
        with redis.Redis.from_url(self._url) as client:
            client.config_set("slowlog-log-slower-than", 1000)
            client.config_set("slowlog-max-len", 100_000)
            client.slowlog_reset()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        with redis.Redis.from_url(self._url) as client:
            slow: Any = client.slowlog_get(100_000)
        micros = [one["duration"] for one in slow if one["command"].startswith(b"EVALSHA")]
        self.script_ms = max(micros, default=0) / 1000

    def _ask(self) -> None:
        with redis.Redis.from_url(self._url) as client:
            client.ping()
            while not self._over.wait(LOOK_S / 5):
                began = time.perf_counter()
                client.ping()
                self.redis_ms = max(self.redis_ms, (time.perf_counter() - began) * 1000)

    def _weigh(self) -> None:
        while not self._over.wait(LOOK_S):
            self.most_bytes = max(self.most_bytes, self._worker.memory_info().rss)


class Tenant:
    """A workspace of a service, what it stores, and what that then takes."""

    def __init__(self, run: Run, ground: Ground, until_open: Callable[[datetime], Awaitable[Any]]) -> None:
        self._run, self._ground, self._until_open = run, ground, until_open

    async def measure(self) -> AsyncIterator[Heavy]:
        """Each load by itself, on the same service."""
        yield await self._lost("nothing")
        for many, size in ((LARGE, LARGE_BYTES), (MIDDLE, MIDDLE_BYTES)):
            async with self._planted(many, size):
                yield await self._lost(f"{many:,} kept answers of {size / 1e6:.2f} MB")
                if many == MIDDLE:
                    yield await self._deleted(f"deleting a user beside {many:,} of them")
        await self._order()
        yield await self._lost(f"an order of {PLACES} coupons")
        await self._holder()
        yield await self._lost(f"a user with {BOOKS_OF_A_USER:,} coupons in as many books")
        async with self._quarantined():
            yield await self._lost("a redemption in quarantine that was rolled back")

    async def _lost(self, name: str) -> Heavy:
        """FLUSHALL, until it is open again."""
        since = datetime.now(UTC)
        with redis.Redis.from_url(self._run.facts["redisUrl"]) as client, Watched(self._run) as watched:
            client.flushall()
            await self._until_open(since)
        return _heavy(name, (datetime.now(UTC) - since).total_seconds(), watched)

    async def _deleted(self, name: str) -> Heavy:
        began = time.monotonic()
        with Watched(self._run) as watched:
            answers = [Answer(0, {}, b"")]
            while answers[0].status != 204:  # after 10 s it is 503, and a repeat waits again
                answers = await self._ground.barrage.fire([Ask("DELETE", "/v1/users/nobody")])
        return _heavy(name, time.monotonic() - began, watched)

    @contextlib.asynccontextmanager
    async def _planted(self, many: int, size: int) -> AsyncIterator[None]:
        connection = await asyncpg.connect(self._run.facts["databaseUrl"])
        try:
            row = await connection.fetchrow("SELECT workspace, partition FROM workspaces WHERE name = 'demo'")
            assert row
            where = (row["workspace"], f"planted-{size}-", row["partition"])
            await connection.execute(_PLANT, *where, many, _kept_before(size), timeout=600)
            try:
                yield
            finally:
                await connection.execute("DELETE FROM idempotency_keys WHERE key LIKE 'planted-%'", timeout=600)
        finally:
            await connection.close()

    @contextlib.asynccontextmanager
    async def _quarantined(self) -> AsyncIterator[None]:
        """A redemption that Postgres refuses, since it has the code as used already; and its rollback."""
        (code,), body = new_codes(1), {"userId": new_id(), "orderId": new_id()}
        await self._ground.book([code])
        connection = await asyncpg.connect(self._run.facts["databaseUrl"])
        try:
            await connection.execute(_USED, code)
            await self._each([Ask("POST", f"/v1/coupons/redeem/{code}", body, new_id())])
            await self._each([Ask("POST", f"/v1/orders/{body['orderId']}/rollback", {}, new_id())], done=200)
            yield
        finally:
            await connection.close()

    async def _order(self) -> None:
        await self._ground.barrage.one("PATCH", "/v1/workspace", {"couponsPerOrder": PLACES})
        codes, body = new_codes(PLACES), {"userId": new_id(), "orderId": new_id()}
        await self._ground.book(codes)
        await self._each([Ask("POST", f"/v1/coupons/redeem/{code}", body, new_id()) for code in codes])

    async def _holder(self) -> None:
        body = {
            "userId": new_id(), "validFrom": "2026-01-01T00:00:00Z", "validUntil": "2096-01-01T00:00:00Z",
            "discountType": "fixed", "discountValue": 5, "currency": "USD",
        }  # fmt: skip
        await self._each([Ask("POST", "/v1/coupons/user-specific", body, new_id()) for _ in range(BOOKS_OF_A_USER)])

    async def _each(self, asks: list[Ask], done: int = 201) -> None:
        """Ask, and those that were told to come again, again."""
        for _ in range(ROUNDS):
            again: list[Ask] = []
            for start in range(0, len(asks), AT_ONCE):
                some = asks[start : start + AT_ONCE]
                answers = await self._ground.barrage.fire(some)
                again += [ask for ask, answer in zip(some, answers, strict=True) if answer.status != done]
            if not again:
                return
            asks = again
            await asyncio.sleep(CLAIM_S)
        raise AssertionError(f"{len(asks)} requests were never done")


def _kept_before(size: int) -> str:
    """A batch's answer of about so many bytes, as the version before kept it."""
    each = '{"status":201,"body":{"code":"%s","userId":"%s","orderId":null,"metadata":{}}}'
    results = [each % (secrets.token_hex(30), secrets.token_hex(8)) for _ in range(size // 69)]
    return packed_answer(b'{"results":[%b]}' % ",".join(results).encode())


def _heavy(name: str, seconds: float, watched: Watched) -> Heavy:
    return Heavy(
        name, seconds, watched.script_ms, watched.redis_ms, watched.most_bytes / MIB, watched.before_bytes / MIB
    )


def table(found: list[Heavy]) -> str:
    """As Markdown."""
    heads = ["stored", "closed, or took", "longest script", "longest wait of a PING", "the worker's most", "before"]
    rows = [
        [one.name, f"{one.closed_s:.1f} s", f"{one.script_ms:.0f} ms", f"{one.redis_ms:.0f} ms",
         *(f"{mib:.0f} MiB" for mib in (one.worker_mib, one.before_mib))]
        for one in found
    ]  # fmt: skip
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


async def measure_heavy(start: Callable[[Path], Any], folder: Path) -> list[Heavy]:
    """All loads, on a service that `start` starts on a folder."""
    service = start(folder)
    try:
        tenant = Tenant(service.run, service.ground, service.until_recovered)
        found: list[Heavy] = []
        async for one in tenant.measure():
            found.append(one)
            print(table([one]).splitlines()[-1], file=sys.stderr, flush=True)
        return found
    finally:
        service.end()
