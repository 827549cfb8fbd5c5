"""Servers that lose their power, their disk, their memory or their settings; a Postgres that is away."""

import asyncio
import contextlib
import math
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import UUID

from redis.exceptions import RedisError

from loadtests.ledger import now_ms
from tests.harness.waiting import PATIENCE_S
from tests.lab.faults.deployment import Deployment
from tests.lab.faults.looking import Drill
from tests.lab.faults.nodes import wait_until
from tests.lab.faults.process_faults import KILLS
from tests.lab.faults.redis_faults import Fault

_THERE = "SELECT redemption_id FROM redemptions WHERE redemption_id = ANY($1)"
_SPARE_BYTES = 65_536
BEHIND_EVENTS = 150
"""What may wait to be recorded, where that bound is tried."""


async def postgres_killed(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """SIGKILL of Postgres, three times, while buyers are served."""
    for _ in range(KILLS):
        await drill.begin_fault(20)
        await deployment.database.kill()
        await asyncio.sleep(dice.uniform(0, 0.3))
        await deployment.database.start_again()


async def postgres_cut(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """Postgres does what it is asked, commits too, and its replies are lost with the connection."""
    for _ in range(8):
        await drill.until_more(10)
        await asyncio.sleep(dice.uniform(0, 0.1))
        deployment.database.front.hold_replies()
        await asyncio.sleep(dice.uniform(0, 0.05))
        await drill.begin_fault()
        deployment.database.front.cut()
        deployment.database.front.flow()


async def postgres_away(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """Postgres is stopped while some hundred requests are served, or hangs; all is recorded once it is back."""
    await drill.begin_fault()
    async with _away(deployment, hangs=dice.random() < 0.3):
        await drill.until_more(250)


async def postgres_away_for_a_minute(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """Postgres is stopped for a minute, beside a cluster of Redis: no lock, redemption or read is refused."""
    await deployment.until_fenced()
    begun = now_ms()
    await drill.begin_fault()
    await deployment.database.kill()
    try:
        await asyncio.sleep(60)
    finally:
        hot = [one for one in list(drill.ledger.entries) if one.op in ("lock", "redeem") and one.sent_ms > begun]
        looks = [look for look in drill.looks if look.at_ms > begun]
        refused = Counter(f"{one.op} {one.refusal}" for one in hot if one.status in (0, 503))
        refused += Counter(f"read {look.code}" for look in looks if look.code)
        print(f"without Postgres: {len(hot)} locks and redemptions, {len(looks)} reads, refused {dict(refused)}")
        if refused or not hot:
            drill.wrong.append(f"refused without Postgres: {dict(refused)} of {len(hot)} and {len(looks)} reads")
        await deployment.database.start_again()


def away_until_behind(*, hangs: bool) -> Fault:
    """Postgres is away, or keeps its connections and answers nothing. Buyers are served until the outbox holds as much
    as it may; then they get `behind`. Once Postgres is back all is recorded, and decided again, by itself."""

    async def inject(deployment: Deployment, drill: Drill, _: random.Random) -> None:
        await drill.begin_fault()
        async with _away(deployment, hangs=hangs):
            await _until_behind(drill)

    return inject


@contextlib.asynccontextmanager
async def _away(deployment: Deployment, *, hangs: bool) -> AsyncIterator[None]:
    """Inside the block Postgres is stopped, or hangs."""
    if hangs:
        deployment.database.signal(signal.SIGSTOP)
    else:
        await deployment.database.kill()
    try:
        yield
    finally:
        deployment.database.signal(signal.SIGCONT)
        await deployment.database.start_again()


async def _until_behind(drill: Drill) -> None:
    begun = now_ms()
    events = {"redeem", "assign", "checkout", "rollback", "order"}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            while len(_first_behind_ms(drill, begun)) < len(drill.deployment.urls):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            enough = drill.ledger.unanswered["behind"] + 40
            while drill.ledger.unanswered["behind"] < enough:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    entries, first_ms = list(drill.ledger.entries), _first_behind_ms(drill, begun)
    drill.wrong += [
        f"no response `behind` of {url}" for api, url in enumerate(drill.deployment.urls) if api not in first_ms
    ]
    # Each API counts from the cursor that it read last, so one may refuse before another, and before the gate does
    # (docs/internals/decisions/0075). No count falls without Postgres: an API that refused once lets no lock succeed.
    locked = sum(
        one.succeeded and one.op == "lock" and one.sent_ms > first_ms.get(one.api, math.inf) for one in entries
    )
    if locked:
        drill.wrong.append(f"{locked} locked by an API after its first response `behind`")
    decided = sum(one.succeeded and one.op in events and one.answered_ms > begun for one in entries)
    if decided > BEHIND_EVENTS * 3:
        drill.wrong.append(f"{decided} decided without Postgres, where {BEHIND_EVENTS} may wait for it")


def _first_behind_ms(drill: Drill, since_ms: float) -> dict[int, float]:
    """By API, the time of its first response `behind` since then."""
    first_ms = dict[int, float]()
    for one in drill.ledger.entries:
        if one.refusal == "behind" and one.answered_ms > since_ms:
            first_ms.setdefault(one.api, one.answered_ms)
    return first_ms


async def postgres_power_lost(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """Postgres loses what it had not synced, twice. Before anything new is recorded, it has all that was `recorded`."""
    for _ in range(2):
        await drill.until_more(60)
        async with deployment.worker.asleep():
            await drill.begin_fault()
            drill.lost_writes += await deployment.database.lose_power(dice)
            await deployment.database.start_again()
            await _all_recorded(deployment, drill)


async def _all_recorded(deployment: Deployment, drill: Drill) -> None:
    recorded = {
        UUID(entry.redemption["redemptionId"])
        for entry in drill.ledger.entries
        if entry.op == "redeem" and entry.redemption and entry.durability == "recorded"
    }

    async def there() -> set[UUID]:
        return {row["redemption_id"] for row in await deployment.pool.fetch(_THERE, list(recorded))} | {UUID(int=0)}

    if lost := recorded - await wait_until(there, "Postgres"):
        drill.wrong.append(f"{len(lost)} answered as recorded, and lost: {list(lost)[:3]}")


async def all_power_lost(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """Redis and Postgres lose what they had not synced, both at once."""
    await drill.begin_fault(60)
    deployment.primary.signal(signal.SIGSTOP)
    deployment.database.signal(signal.SIGSTOP)
    drill.lost_writes += await deployment.primary.lose_power(dice)
    drill.lost_writes += await deployment.database.lose_power(dice)
    await deployment.database.start_again()
    await deployment.primary.start()


async def unset(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """CONFIG SET of what Redis must have to be trusted. Once the service has seen it, the power goes, while Redis
    rewrites its file: nothing is lost of what was answered as synced."""
    client = deployment.primary.client
    name, value, back = dice.choice(
        [
            ("no-appendfsync-on-rewrite", "yes", "no"),
            ("no-appendfsync-on-rewrite", "yes", "no"),
            ("appendfsync", "everysec", "always"),
            ("appendfsync", "no", "always"),
        ]
    )
    await drill.begin_fault(20)
    await client.config_set(name, value)
    await asyncio.sleep(2.5)  # each process asks once a second
    before = len(drill.ledger.entries)
    await client.execute_command("CONFIG", "SET", "rdb-key-save-delay", "200")
    with contextlib.suppress(RedisError):
        await client.bgrewriteaof()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1.5):
            while len(drill.ledger.entries) < before + 60:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    drill.lost_writes += await deployment.primary.lose_power(dice)
    await deployment.primary.start()
    assert (await client.config_get(name))[name] == back


async def memory_full(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """Redis may use no more memory than it does: nothing is half done, and all goes on when it may."""
    client = deployment.primary.client
    for _ in range(2):
        await drill.until_more(20)
        used = (await client.info("memory"))["used_memory"]
        await drill.begin_fault()
        await client.config_set("maxmemory", max(1, used - dice.randrange(1_000_000)))
        await asyncio.sleep(dice.uniform(0.2, 1.0))
        await client.config_set("maxmemory", 0)


async def redis_disk_full(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """Redis's disk fills up. Where it syncs always it ends; it is started once there is room again."""
    await drill.begin_fault(20)
    with filled(deployment.primary.folder), contextlib.suppress(TimeoutError):
        async with asyncio.timeout(10):
            while deployment.primary.runs:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    if not deployment.primary.runs:
        await deployment.primary.start()


async def postgres_disk_full(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """Postgres's disk fills up, while buyers are served."""
    await drill.begin_fault(20)
    with filled(deployment.folder / "record"):
        with contextlib.suppress(Exception):
            async with asyncio.timeout(5):
                await deployment.pool.execute("SELECT pg_switch_wal()")
        await drill.until_more(150)
    await deployment.database.kill()  # it may have ended by itself
    await deployment.database.start_again()


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """A disk with hardly any room."""
    filler = folder / "filler"
    try:
        with filler.open("wb") as file:
            while True:
                disk = os.statvfs(folder)
                left = disk.f_bavail * disk.f_frsize - _SPARE_BYTES
                if left <= 0:
                    break
                file.write(bytes(min(left, 1 << 20)))
                file.flush()
        yield
    finally:
        filler.unlink()
