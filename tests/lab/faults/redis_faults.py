"""Faults that lose a Redis, or the worker while it recovers one."""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial

from service.engine.formats import key_names
from tests.harness.running import HOME
from tests.lab.faults.deployment import Deployment
from tests.lab.faults.looking import Drill
from tests.lab.faults.nodes import wait_until

UNWATCHED_S = 3.0
"""The APIs have found the server again by then. No other worker is there to take the leases."""

Fault = Callable[[Deployment, Drill, random.Random], Awaitable[None]]


def worker_asleep(deployment: Deployment, dice: random.Random) -> AbstractAsyncContextManager[None]:
    """In every other round, let nothing be recorded, so that there is something to lose."""
    return deployment.worker.asleep() if dice.random() < 0.5 else nullcontext()


async def redis_killed(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """SIGKILL; what it answered is on its disk."""
    async with worker_asleep(deployment, dice):
        await drill.begin_fault(20)
        await deployment.primary.kill()
        await asyncio.sleep(dice.uniform(0, 0.3))
        await deployment.primary.start()


async def killed_within_calls(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """SIGKILL of a Redis that goes on after a pause: all replies come at once, so next requests are calls of many."""
    for _ in range(3):
        epoch = (await deployment.row()).epoch
        await drill.begin_fault(100)
        deployment.primary.signal(signal.SIGSTOP)
        await asyncio.sleep(dice.uniform(0.1, 0.3))
        deployment.primary.signal(signal.SIGCONT)
        await asyncio.sleep(dice.uniform(0.001, 0.03))
        await deployment.primary.kill()
        await deployment.primary.start()
        await deployment.until_reopened(epoch)


async def redis_and_worker_killed(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """SIGKILL of both at the same moment; either is started first."""
    async with worker_asleep(deployment, dice):
        await drill.begin_fault(20)
        await asyncio.gather(deployment.primary.kill(), deployment.worker.signal(signal.SIGKILL))
    starts = [deployment.primary.start, partial(deployment.start_worker, wait_for_lease=dice.random() < 0.2)]
    dice.shuffle(starts)
    for start in starts:
        await asyncio.sleep(dice.uniform(0, 0.5))
        await start()


async def power_lost(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """SIGKILL, and what was not synced by then is gone, or a part of it."""
    async with worker_asleep(deployment, dice):
        await drill.begin_fault(40)
        drill.lost_writes += await deployment.primary.lose_power(dice)
        await deployment.primary.start()


async def torn(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """SIGKILL, and its AOF ends within what a script wrote; and once more, when all goes on. Redis 7.0 runs such a half
    transaction at the second start."""
    epoch = (await deployment.row()).epoch
    async with worker_asleep(deployment, dice):
        await drill.begin_fault(40)
        await deployment.primary.kill()
        deployment.primary.cut_within_transaction()
        await deployment.primary.start()
    await deployment.until_reopened(epoch)
    await _killed_when_open(deployment, drill)


async def _killed_when_open(deployment: Deployment, drill: Drill) -> None:
    await drill.until_more(20)
    epoch = (await deployment.row()).epoch
    await drill.begin_fault()
    await deployment.primary.kill()
    await deployment.primary.start()
    await deployment.until_reopened(epoch)


async def worker_killed(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """SIGKILL of the worker; in every fifth round its lease ends by itself."""
    await drill.begin_fault()
    await deployment.kill_worker(wait_for_lease=dice.random() < 0.2)
    await drill.until_more(40)


async def recovering_worker_killed(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """Redis is emptied or loses its end, and the worker is killed one to three times while it mends."""
    epoch = (await deployment.row()).epoch
    await dice.choice((emptied, _promoted))(deployment, drill, dice)
    for _ in range(dice.randint(1, 3)):
        await wait_until(partial(_begun, deployment, epoch), "an opening")
        await asyncio.sleep(dice.uniform(0, 1.0))
        epoch = (await deployment.row()).epoch
        await drill.begin_fault()
        await deployment.kill_worker(wait_for_lease=dice.random() < 0.05)
        if (await deployment.row()).state == "open":
            return


async def killed_while_rebuilt(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """Redis is emptied, killed once or twice during the rebuild, and again after it: then its disk has everything."""
    epoch = (await deployment.row()).epoch
    await emptied(deployment, drill, dice)
    for _ in range(dice.randint(1, 2)):
        await wait_until(partial(_begun, deployment, epoch), "an opening")
        epoch = (await deployment.row()).epoch
        await asyncio.sleep(dice.uniform(0, 1.0))
        await drill.begin_fault()
        await deployment.primary.kill()
        await deployment.primary.start()
    await deployment.until_reopened(epoch)
    await _killed_when_open(deployment, drill)


async def _begun(deployment: Deployment, epoch: int) -> bool:
    return (await deployment.row()).epoch > epoch


async def emptied(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """FLUSHALL."""
    async with worker_asleep(deployment, dice):
        await drill.begin_fault(20)
        await deployment.primary.client.flushall()


async def anchor_lost(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """Without a worker the outbox loses the last recorded entry. The next worker can't record, and rebuilds Redis."""
    epoch = (await deployment.row()).epoch
    await deployment.worker.signal(signal.SIGKILL)
    await drill.begin_fault(dice.randrange(5, 60))
    drill.outboxes.append(await deployment.primary.outbox())
    assert await deployment.primary.client.xdel(key_names.outbox(HOME), str((await deployment.row()).cursor)) == 1
    await deployment.start_worker(wait_for_lease=False)
    await wait_until(partial(_begun, deployment, epoch), "an opening")
    await deployment.until_reopened(epoch)
    await drill.until_more(60)  # all before may be lost


async def scripts_flushed(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """SCRIPT FLUSH. Redemptions are refused as `recovering` until the worker has verified Redis."""
    await drill.begin_fault(20)
    await deployment.primary.client.script_flush()
    await drill.until_more(20)
    refused = [entry for entry in drill.ledger.entries if entry.op == "redeem" and entry.status in (0, 503)]
    if reasons := {entry.refusal for entry in refused} - {"recovering"}:
        drill.wrong.append(f"refused after SCRIPT FLUSH: {sorted(reasons)}")


async def promoted_by_other_clocks(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """As a promotion, and each server and process has a clock of its own, up to an hour off."""
    clocked = [deployment.primary, deployment.replica, *deployment.processes]
    try:
        for one in clocked:
            one.clock.set(dice.choice((-3_600_000, -2000, -300, 0, 300, 2000, 3_600_000)))
        await promoted(deployment, drill, dice)
        await drill.until_more(20)
    finally:
        for one in clocked:
            one.clock.set(0)


async def promoted(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """The replica is some hundred milliseconds behind, and takes over; the primary dies, or is only cut off."""
    epoch = (await deployment.row()).epoch
    await _promoted(deployment, drill, dice)
    await deployment.until_reopened(epoch)


async def _promoted(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    async with worker_asleep(deployment, dice):
        deployment.primary.link.hold()
        await drill.until_more(dice.randrange(5, 60))
        if dice.random() < 0.5:
            await deployment.primary.kill()
        await drill.begin_fault()
        await _take_over(deployment)


async def _take_over(deployment: Deployment) -> None:
    """The replica becomes the primary. What was on its way to it is lost."""
    deployment.primary.link.cut()
    await deployment.replica.lead()
    deployment.switch()
    deployment.replica.link.flow()


async def failed_over(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """The primary dies, or hangs and goes on later. The sentinels replace it, and all processes follow them."""
    epoch, old = (await deployment.row()).epoch, deployment.primary
    await drill.until_more(dice.randrange(5, 60))
    await drill.begin_fault()
    if dice.random() < 0.5:
        await old.kill()
    else:
        old.signal(signal.SIGSTOP)
    try:
        await deployment.until_replaced()
        await deployment.until_reopened(epoch)
    finally:
        if old.runs:
            old.signal(signal.SIGCONT)


def and_back(*, follows: bool, requests: bool) -> Fault:
    async def inject(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
        epoch = (await deployment.row()).epoch
        async with worker_asleep(deployment, dice):
            deployment.primary.link.hold()
            await drill.until_more(dice.randrange(5, 60))
            if not requests:
                drill.crowd.paused = True
                await asyncio.sleep(0.05)
            await drill.begin_fault()
            await _take_over(deployment)
        if requests:
            await deployment.until_reopened(epoch)
            await drill.until_more(20)
        elif dice.random() < 0.5:
            await deployment.until_reopened(epoch)
        else:
            await asyncio.sleep(dice.uniform(0, 0.3))
        if follows:
            await deployment.replica.follow(deployment.primary)
            await drill.until_more(5 if requests else 0)
            deployment.primary.link.hold()
        else:
            drill.outboxes.append(await deployment.replica.outbox())
        epoch = (await deployment.row()).epoch
        await drill.begin_fault()
        await _take_over(deployment)
        drill.crowd.paused = False
        if requests or follows:
            await deployment.until_reopened(epoch)

    return inject


async def demoted_for_a_moment(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """The primary follows its replica, which lacks its end, and leads again; its clients stay connected throughout."""
    first, other = deployment.primary, deployment.replica
    epoch = (await deployment.row()).epoch
    async with worker_asleep(deployment, dice):
        first.link.hold()
        await drill.until_more(dice.randrange(5, 60))
        first.link.cut()
        await drill.begin_fault()
        await other.lead()
        await first.follow(other)
        await asyncio.sleep(dice.uniform(0, 0.3))
        await first.lead()
    first.link.flow()
    await deployment.until_reopened(epoch)


async def old_dump(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """It is stopped, and started on what it held a while ago."""
    dump = await deployment.primary.save()
    await drill.until_more(dice.randrange(10, 80))
    async with worker_asleep(deployment, dice):
        await drill.begin_fault(20)
        await deployment.primary.load(dump)


async def old_dump_unwatched(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """As above, while the worker sleeps, and for some seconds more: what the APIs decide meanwhile is not verified."""
    dump = await deployment.primary.save()
    await drill.until_more(dice.randrange(40, 120))
    async with deployment.worker.asleep():
        await drill.begin_fault()
        await deployment.primary.load(dump)
        await asyncio.sleep(UNWATCHED_S)


async def started_empty(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """A server that keeps nothing is killed and started."""
    async with worker_asleep(deployment, dice):
        await drill.begin_fault(20)
        await deployment.primary.kill()
        await deployment.primary.start()
