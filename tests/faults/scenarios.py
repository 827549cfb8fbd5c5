"""What is done to real servers and workers while a ledger is kept."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple

from tests.faults.ledger import Ledger
from tests.faults.stage import Stage, Sync, until

Hurt = Callable[[Stage, Ledger, random.Random], Awaitable[None]]
NOTHING: frozenset[str] = frozenset()
ANSWERED = frozenset({"accepted", "fsynced"})
_GREATEST_CUT = 30_000
"""Bytes of an AOF: some twenty events."""


class Scenario(NamedTuple):
    """A fault: what it may lose, by the durability that was told; whether events may be set aside."""

    hurt: Hurt
    sync: Sync
    may_lose: frozenset[str]
    sets_aside: bool = False


@asynccontextmanager
async def _worker_asleep(stage: Stage, dice: random.Random) -> AsyncIterator[None]:
    """In every other round, let nothing be recorded meanwhile, so that there is something to lose."""
    asleep = dice.random() < 0.5
    if asleep:
        await stage.worker.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        if asleep:
            await stage.worker.signal(signal.SIGCONT)


async def redis_killed(stage: Stage, ledger: Ledger, dice: random.Random) -> None:
    """SIGKILL; what it answered is on its disk."""
    async with _worker_asleep(stage, dice):
        await ledger.until_more(20)
        await stage.primary.kill()
        await asyncio.sleep(dice.uniform(0, 0.3))
        await stage.primary.start()


async def power_lost(stage: Stage, ledger: Ledger, dice: random.Random) -> None:
    """SIGKILL, and the end of the AOF is gone, as it may be where it is synced once a second."""
    async with _worker_asleep(stage, dice):
        await ledger.until_more(40)
        await stage.primary.kill()
        stage.primary.cut_file(dice.randrange(_GREATEST_CUT))
        await stage.primary.start()


async def torn(stage: Stage, ledger: Ledger, dice: random.Random) -> None:
    """SIGKILL, and its AOF ends within what a script wrote; and once more, when all goes on. Redis 7.0 runs such a half
    transaction at the second start."""
    epoch = (await stage.row()).epoch
    async with _worker_asleep(stage, dice):
        await ledger.until_more(40)
        await stage.primary.kill()
        stage.primary.cut_within_transaction()
        await stage.primary.start()
    await stage.until_reopened(epoch)
    await _killed_when_open(stage, ledger)


async def _killed_when_open(stage: Stage, ledger: Ledger) -> None:
    await ledger.until_more(20)
    epoch = (await stage.row()).epoch
    await stage.primary.kill()
    await stage.primary.start()
    await stage.until_reopened(epoch)


async def worker_killed(stage: Stage, ledger: Ledger, dice: random.Random) -> None:
    """SIGKILL of the worker; in every fifth round its lease ends by itself."""
    await stage.kill_worker(wait_for_lease=dice.random() < 0.2)
    await ledger.until_more(40)


async def recovering_worker_killed(stage: Stage, ledger: Ledger, dice: random.Random) -> None:
    """Redis is emptied or loses its end, and the worker is killed one to three times while it mends."""
    epoch = (await stage.row()).epoch
    await dice.choice((emptied, _promoted))(stage, ledger, dice)
    for _ in range(dice.randint(1, 3)):
        await until(partial(_begun, stage, epoch), "an opening")
        await asyncio.sleep(dice.uniform(0, 1.0))
        epoch = (await stage.row()).epoch
        await stage.kill_worker(wait_for_lease=dice.random() < 0.05)
        if (await stage.row()).state == "open":
            return


async def killed_while_rebuilt(stage: Stage, ledger: Ledger, dice: random.Random) -> None:
    """Redis is emptied, and killed once or twice while it is rebuilt, and once more when it is: what was rebuilt is on
    its disk by then."""
    epoch = (await stage.row()).epoch
    await emptied(stage, ledger, dice)
    for _ in range(dice.randint(1, 2)):
        await until(partial(_begun, stage, epoch), "an opening")
        epoch = (await stage.row()).epoch
        await asyncio.sleep(dice.uniform(0, 1.0))
        await stage.primary.kill()
        await stage.primary.start()
    await stage.until_reopened(epoch)
    await _killed_when_open(stage, ledger)


async def _begun(stage: Stage, epoch: int) -> bool:
    return (await stage.row()).epoch > epoch


async def emptied(stage: Stage, ledger: Ledger, dice: random.Random) -> None:
    """FLUSHALL."""
    async with _worker_asleep(stage, dice):
        await ledger.until_more(20)
        await stage.primary.client.flushall()


async def scripts_flushed(stage: Stage, ledger: Ledger, dice: random.Random) -> None:
    """SCRIPT FLUSH."""
    await ledger.until_more(20)
    await stage.primary.client.script_flush()


async def promoted(stage: Stage, ledger: Ledger, dice: random.Random) -> None:
    """The replica is some hundred milliseconds behind, and takes over; the primary dies, or is only cut off."""
    epoch = (await stage.row()).epoch
    await _promoted(stage, ledger, dice)
    await stage.until_reopened(epoch)


async def _promoted(stage: Stage, ledger: Ledger, dice: random.Random) -> None:
    async with _worker_asleep(stage, dice):
        stage.primary.link.hold()
        await ledger.until_more(dice.randrange(5, 60))
        if dice.random() < 0.5:
            await stage.primary.kill()
        await _take_over(stage)


async def _take_over(stage: Stage) -> None:
    """The replica becomes the primary. What was on its way to it is lost."""
    stage.primary.link.cut()
    await stage.replica.lead()
    stage.switch()
    stage.replica.link.flow()


def _and_back(*, follows: bool, requests: bool) -> Hurt:
    async def hurt(stage: Stage, ledger: Ledger, dice: random.Random) -> None:
        epoch = (await stage.row()).epoch
        async with _worker_asleep(stage, dice):
            stage.primary.link.hold()
            await ledger.until_more(dice.randrange(5, 60))
            if not requests:
                ledger.paused = True
                await asyncio.sleep(0.05)
            await _take_over(stage)
        if requests:
            await stage.until_reopened(epoch)
            await ledger.until_more(20)
        elif dice.random() < 0.5:
            await stage.until_reopened(epoch)
        else:
            await asyncio.sleep(dice.uniform(0, 0.3))
        if follows:
            await stage.replica.follow(stage.primary)
            await ledger.until_more(5 if requests else 0)
            stage.primary.link.hold()
        else:
            ledger.outboxes.append(await stage.replica.outbox())
        epoch = (await stage.row()).epoch
        await _take_over(stage)
        ledger.paused = False
        if requests or follows:
            await stage.until_reopened(epoch)

    return hurt


async def demoted_for_a_moment(stage: Stage, ledger: Ledger, dice: random.Random) -> None:
    """The primary follows its replica, which lacks its end, and leads again; its clients stay connected throughout."""
    first, other = stage.primary, stage.replica
    epoch = (await stage.row()).epoch
    async with _worker_asleep(stage, dice):
        first.link.hold()
        await ledger.until_more(dice.randrange(5, 60))
        first.link.cut()
        await other.lead()
        await first.follow(other)
        await asyncio.sleep(dice.uniform(0, 0.3))
        await first.lead()
    first.link.flow()
    await stage.until_reopened(epoch)


async def old_dump(stage: Stage, ledger: Ledger, dice: random.Random) -> None:
    """It is stopped, and started on what it held a while ago."""
    dump = await stage.primary.save()
    await ledger.until_more(dice.randrange(10, 80))
    async with _worker_asleep(stage, dice):
        await ledger.until_more(20)
        await stage.primary.load(dump)


async def started_empty(stage: Stage, ledger: Ledger, dice: random.Random) -> None:
    """A server that keeps nothing is killed and started."""
    async with _worker_asleep(stage, dice):
        await ledger.until_more(20)
        await stage.primary.kill()
        await stage.primary.start()


SCENARIOS: dict[str, Scenario] = {
    "SIGKILL of Redis, appendfsync always": Scenario(redis_killed, "always", NOTHING),
    "SIGKILL of Redis, everysec, its file cut": Scenario(power_lost, "everysec", ANSWERED),
    "SIGKILL of Redis within a transaction, twice": Scenario(torn, "everysec", ANSWERED),
    "SIGKILL of the worker": Scenario(worker_killed, "always", NOTHING),
    "SIGKILL of the recovering worker": Scenario(recovering_worker_killed, "always", ANSWERED),
    "SIGKILL of Redis while it is rebuilt": Scenario(killed_while_rebuilt, "always", ANSWERED),
    "FLUSHALL": Scenario(emptied, "always", ANSWERED),
    "SCRIPT FLUSH": Scenario(scripts_flushed, "always", NOTHING),
    "promotion with a lost tail": Scenario(promoted, "always", ANSWERED),
    "A→B→A, each on its own, with requests": Scenario(
        _and_back(follows=False, requests=True), "always", ANSWERED, True
    ),
    "A→B→A, each on its own, without": Scenario(_and_back(follows=False, requests=False), "always", ANSWERED, True),
    "A→B→A, A follows B, with requests": Scenario(_and_back(follows=True, requests=True), "always", ANSWERED),
    "A→B→A, A follows B, without": Scenario(_and_back(follows=True, requests=False), "always", ANSWERED),
    "A demoted for a moment, clients stay": Scenario(demoted_for_a_moment, "always", ANSWERED),
    "an old dump is loaded": Scenario(old_dump, "always", ANSWERED),
    "a restart without persistence": Scenario(started_empty, "nothing", ANSWERED),
}
"""By name."""
