"""What large data of a tenant costs a recovery (`recovery --heavy`), or the deletion of a user: the time, the longest
that a script held Redis, the longest that a PING waited (for scripts, or for a sync of Redis's file), and the worker's
memory."""

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import redis

from loadtests.figures import say
from loadtests.ground import new_codes, new_id
from loadtests.own import running
from loadtests.parts.opening import until_recovered
from loadtests.subject import Subject, opened, redeem
from loadtests.watch import Watch, of_processes
from loadtests.wire import Answer, Ask
from service.formats.idempotency_entry import compress_body
from tests.harness.running import Run

LARGE_BYTES, LARGE = 900_000, 1_000
MIDDLE_BYTES, MIDDLE = 52_000, 8_000
PLACES, BOOKS_OF_A_USER = 100, 5_000
AT_ONCE = 25
LOOK_S = 0.01
ROUNDS, CLAIM_S = 3, 61.0
"""A claim whose request's outcome isn't known ends after a minute."""

_PLANT = """
INSERT INTO idempotency_keys (workspace, key, op, partition, epoch, seq, at, entry)
SELECT workspace, $1 || n, 'request', partition, 0, n, now(), md5(n::text) || ' 0 200 - ' || $3
FROM workspaces CROSS JOIN generate_series(1, $2::int) AS n WHERE name = 'demo'
"""

_USED = "INSERT INTO single_uses SELECT workspace, $1, gen_random_uuid() FROM workspaces WHERE name = 'demo'"
HEADS = ("stored", "closed, or took", "longest script", "longest wait of a PING", "the worker's most", "before")


class Watched:
    """Measures the longest script, the longest wait of a PING, and the worker's memory."""

    def __init__(self, run: Run) -> None:
        self._url = run.facts["redisUrl"]
        self.memory = Watch(of_processes({"worker": run.facts["pids"]["worker"]}), LOOK_S)
        self._over = threading.Event()
        self.script_ms, self.redis_ms = 0.0, 0.0
        self._asking = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> Self:
        with redis.Redis.from_url(self._url) as client:
            client.config_set("slowlog-log-slower-than", 1000)
            client.config_set("slowlog-max-len", 100_000)
            client.slowlog_reset()
        self.memory.start()
        self._asking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._asking.join()
        self.memory.stop()
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


class Tenant:
    """A workspace of a service, what it stores, and what that then takes."""

    def __init__(self, subject: Subject) -> None:
        self._run, self._subject, self._ground = subject.run, subject, subject.ground
        self.lines: list[list[str]] = []

    async def measure(self) -> None:
        """Each load by itself, on the same service."""
        await self._lost("nothing")
        for many, size in ((LARGE, LARGE_BYTES), (MIDDLE, MIDDLE_BYTES)):
            async with self._planted(many, size):
                await self._lost(f"{many:,} kept answers of {size / 1e6:.2f} MB")
                if many == MIDDLE:
                    await self._deleted(f"deleting a user beside {many:,} of them")
        await self._order()
        await self._lost(f"an order of {PLACES} coupons")
        await self._holder()
        await self._lost(f"a user with {BOOKS_OF_A_USER:,} coupons in as many books")
        await self._quarantine()
        await self._lost("a redemption in quarantine that was rolled back")

    async def _lost(self, name: str) -> None:
        """FLUSHALL, until recovered."""
        since, began = datetime.now(UTC), time.monotonic()
        with Watched(self._run) as watched:
            await self._subject.redis.flushall()
            await until_recovered(self._run, since)
        self._add(name, time.monotonic() - began, watched)

    async def _deleted(self, name: str) -> None:
        began = time.monotonic()
        with Watched(self._run) as watched:
            answers = [Answer(0, {}, b"")]
            while answers[0].status != 204:  # after 10 s it is 503, and a repeat waits again
                answers = await self._ground.barrage.fire([Ask("DELETE", "/v1/users/nobody")])
        self._add(name, time.monotonic() - began, watched)

    def _add(self, name: str, seconds: float, watched: Watched) -> None:
        mib = (watched.memory.most("worker"), watched.memory.first("worker"))
        waits = (f"{watched.script_ms:.0f} ms", f"{watched.redis_ms:.0f} ms")
        self.lines.append([name, f"{seconds:.1f} s", *waits, *(f"{each:.0f} MiB" for each in mib)])
        say(", ".join(self.lines[-1]))

    @contextlib.asynccontextmanager
    async def _planted(self, many: int, size: int) -> AsyncIterator[None]:
        postgres = self._subject.postgres
        await postgres.execute(_PLANT, f"planted-{size}-", many, _kept_before(size), timeout=600)
        try:
            yield
        finally:
            await postgres.execute("DELETE FROM idempotency_keys WHERE key LIKE 'planted-%'", timeout=600)

    async def _quarantine(self) -> None:
        """A redemption that Postgres refuses, since it has the code as used already; and its rollback."""
        (code,), order = new_codes(1), new_id()
        await self._ground.book([code])
        await self._subject.postgres.execute(_USED, code)
        await self._each([redeem(code, new_id(), orderId=order)])
        await self._each([Ask("POST", f"/v1/orders/{order}/rollback", {}, new_id())], done=200)

    async def _order(self) -> None:
        await self._ground.barrage.one("PATCH", "/v1/workspace", {"couponsPerOrder": PLACES})
        codes, user, order = new_codes(PLACES), new_id(), new_id()
        await self._ground.book(codes)
        await self._each([redeem(code, new_id(), userId=user, orderId=order) for code in codes])

    async def _holder(self) -> None:
        body = {
            "userId": new_id(), "validFrom": "2026-01-01T00:00:00Z", "validUntil": "2096-01-01T00:00:00Z",
            "discountType": "fixed", "discountValue": 5, "currency": "USD",
        }  # fmt: skip
        await self._each([Ask("POST", "/v1/coupons/user-specific", body, new_id()) for _ in range(BOOKS_OF_A_USER)])

    async def _each(self, asks: list[Ask], done: int = 201) -> None:
        """Send requests; repeat those that did not succeed."""
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
    """A batch's answer of about so many bytes, as stored before 0032."""
    each = '{"status":201,"body":{"code":"%s","userId":"%s","orderId":null,"metadata":{}}}'
    results = [each % (secrets.token_hex(30), secrets.token_hex(8)) for _ in range(size // 69)]
    return compress_body(b'{"results":[%b]}' % ",".join(results).encode())


async def measure(folder: Path) -> list[list[str]]:
    """Measure a service on a folder: the table's lines."""
    with running(folder) as run:
        async with opened(run) as subject:
            tenant = Tenant(subject)
            await tenant.measure()
            return tenant.lines
