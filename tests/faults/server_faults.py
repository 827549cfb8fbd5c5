"""Servers that lose their power, their disk, their memory or their settings; a Postgres that is away."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from redis.exceptions import RedisError

from tests.faults.ledger import Ledger
from tests.faults.nodes import PATIENCE_S, until
from tests.faults.process_faults import KILLS
from tests.faults.stage import Stage

_THERE = "SELECT redemption_id FROM redemptions WHERE redemption_id = ANY($1)"
_SPARE_BYTES = 65_536
BEHIND_EVENTS = 150
"""What may wait to be recorded, where that bound is tried."""


async def postgres_killed(stage: Stage, ledger: Ledger, dice: random.Random) -> None:
    """SIGKILL of Postgres, three times; buyers are served meanwhile."""
    for _ in range(KILLS):
        await ledger.until_more(20)
        ledger.struck()
        await stage.database.kill()
        await asyncio.sleep(dice.uniform(0, 0.3))
        await stage.database.start_again()


async def postgres_cut(stage: Stage, ledger: Ledger, dice: random.Random) -> None:
    """Postgres does what it is asked, commits too, and its replies are lost with the connection."""
    for _ in range(8):
        await ledger.until_more(10)
        await asyncio.sleep(dice.uniform(0, 0.1))
        stage.database.front.hold_replies()
        await asyncio.sleep(dice.uniform(0, 0.05))
        ledger.struck()
        stage.database.front.cut()
        stage.database.front.flow()


async def postgres_away(stage: Stage, ledger: Ledger, dice: random.Random) -> None:
    """Postgres is stopped while some hundred requests are served, or hangs; all is recorded once it is back."""
    ledger.struck()
    if hangs := dice.random() < 0.3:
        stage.database.signal(signal.SIGSTOP)
    else:
        await stage.database.kill()
    try:
        await ledger.until_more(250)
    finally:
        if hangs:
            stage.database.signal(signal.SIGCONT)
        await stage.database.start_again()


async def postgres_away_until_behind(stage: Stage, ledger: Ledger, dice: random.Random) -> None:
    """Postgres is away, and buyers are served until the outbox holds as much as it may; then they hear `behind`. Once
    Postgres is back all is recorded, and decided again, by itself."""
    ledger.struck()
    await stage.database.kill()
    try:
        await _until_behind(ledger)
    finally:
        await stage.database.start_again()


async def postgres_hangs_until_behind(stage: Stage, ledger: Ledger, dice: random.Random) -> None:
    """As above, and Postgres doesn't break its connections, but answers nothing."""
    ledger.struck()
    stage.database.signal(signal.SIGSTOP)
    try:
        await _until_behind(ledger)
    finally:
        stage.database.signal(signal.SIGCONT)


async def _until_behind(ledger: Ledger) -> None:
    begun, before, heard = time.monotonic(), ledger.unanswered["behind"], None
    events = {"redeem", "assign", "checkout", "rollback", "order"}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            while ledger.unanswered["behind"] < before + 40:
                await asyncio.sleep(0.01)
                if heard is None and ledger.unanswered["behind"] > before:
                    heard = time.monotonic()
    if heard is None:
        ledger.wrong.append("nobody heard that the service is behind")
    # Whoever hears `behind` first, it is locks that end first; and without Postgres the gate doesn't open again.
    locked = sum(one.succeeded and one.kind in {"lock", "leave"} and one.sent > (heard or 0) for one in ledger.answers)
    if heard and locked:
        ledger.wrong.append(f"{locked} locked after the first had heard that the service is behind")
    decided = sum(one.succeeded and one.kind in events and one.answered > begun for one in list(ledger.answers))
    if decided > BEHIND_EVENTS * 3:
        ledger.wrong.append(f"{decided} decided without Postgres, where {BEHIND_EVENTS} may wait for it")


async def postgres_power_lost(stage: Stage, ledger: Ledger, dice: random.Random) -> None:
    """Postgres loses what it had not synced, twice. While nothing is recorded anew, all that was answered as recorded
    is there."""
    for _ in range(2):
        await ledger.until_more(60)
        await stage.worker.signal(signal.SIGSTOP)
        try:
            ledger.struck()
            ledger.lost_writes += await stage.database.lose_power(dice)
            await stage.database.start_again()
            await _all_recorded(stage, ledger)
        finally:
            await stage.worker.signal(signal.SIGCONT)


async def _all_recorded(stage: Stage, ledger: Ledger) -> None:
    told = {
        UUID(answer.said["redemptionId"])
        for answer in ledger.answers
        if answer.kind == "redeem" and answer.durability == "recorded"
    }

    async def there() -> set[UUID]:
        return {row["redemption_id"] for row in await stage.pool.fetch(_THERE, list(told))} | {UUID(int=0)}

    if lost := told - await until(there, "Postgres"):
        ledger.wrong.append(f"{len(lost)} answered as recorded, and lost: {list(lost)[:3]}")


async def all_power_lost(stage: Stage, ledger: Ledger, dice: random.Random) -> None:
    """Redis and Postgres lose what they had not synced, both at once."""
    await ledger.until_more(60)
    ledger.struck()
    stage.primary.signal(signal.SIGSTOP)
    stage.database.signal(signal.SIGSTOP)
    ledger.lost_writes += await stage.primary.lose_power(dice)
    ledger.lost_writes += await stage.database.lose_power(dice)
    await stage.database.start_again()
    await stage.primary.start()


async def unset(stage: Stage, ledger: Ledger, dice: random.Random) -> None:
    """CONFIG SET of what Redis must have to be trusted. Once the service has seen it, the power goes, while Redis
    rewrites its file: nothing is lost of what was answered as synced."""
    client = stage.primary.client
    name, value, back = dice.choice(
        [
            ("no-appendfsync-on-rewrite", "yes", "no"),
            ("no-appendfsync-on-rewrite", "yes", "no"),
            ("appendfsync", "everysec", "always"),
            ("appendfsync", "no", "always"),
        ]
    )
    await ledger.until_more(20)
    ledger.struck()
    await client.config_set(name, value)
    await asyncio.sleep(2.5)  # each process asks once a second
    before = len(ledger.answers)
    await client.execute_command("CONFIG", "SET", "rdb-key-save-delay", "200")
    with contextlib.suppress(RedisError):
        await client.bgrewriteaof()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1.5):
            while len(ledger.answers) < before + 60:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    ledger.lost_writes += await stage.primary.lose_power(dice)
    await stage.primary.start()
    assert (await client.config_get(name))[name] == back


async def memory_full(stage: Stage, ledger: Ledger, dice: random.Random) -> None:
    """Redis may use no more memory than it does: nothing is half done, and all goes on when it may."""
    client = stage.primary.client
    for _ in range(2):
        await ledger.until_more(20)
        used = (await client.info("memory"))["used_memory"]
        ledger.struck()
        await client.config_set("maxmemory", max(1, used - dice.randrange(1_000_000)))
        await asyncio.sleep(dice.uniform(0.2, 1.0))
        await client.config_set("maxmemory", 0)


async def redis_disk_full(stage: Stage, ledger: Ledger, dice: random.Random) -> None:
    """Redis's disk fills up. Where it syncs always it ends; it is started once there is room again."""
    await ledger.until_more(20)
    ledger.struck()
    with _filled(stage.primary.folder), contextlib.suppress(TimeoutError):
        async with asyncio.timeout(10):
            while stage.primary.runs:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    if not stage.primary.runs:
        await stage.primary.start()


async def postgres_disk_full(stage: Stage, ledger: Ledger, dice: random.Random) -> None:
    """Postgres's disk fills up; buyers are served meanwhile."""
    await ledger.until_more(20)
    ledger.struck()
    with _filled(stage.folder / "record"):
        with contextlib.suppress(Exception):
            async with asyncio.timeout(5):
                await stage.pool.execute("SELECT pg_switch_wal()")
        await ledger.until_more(150)
    await stage.database.kill()  # it may have ended by itself
    await stage.database.start_again()


@contextlib.contextmanager
def _filled(folder: Path) -> Iterator[None]:
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
