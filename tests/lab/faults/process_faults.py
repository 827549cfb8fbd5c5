"""Processes that are killed or stopped, connections that break, and clocks that are wrong."""

import asyncio
import os
import random
import signal
from functools import partial

import httpx

from service.engine.formats import key_names
from service.engine.record.partitions.partition_rows import read_partitions
from tests.harness.running import HOME, PARTITIONS
from tests.harness.waiting import PATIENCE_S
from tests.lab.faults.beside import selling_beside
from tests.lab.faults.deployment import Deployment, Process
from tests.lab.faults.looking import Drill
from tests.lab.faults.nodes import wait_until
from tests.lab.faults.redis_faults import Fault

KILLS = 3
WORKERS = 3
CUTS = 12
TRIES = 300
_IN_TRANSACTION = """SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'scrip-worker' AND state = 'idle in transaction'"""
_END_LEASE = "UPDATE partitions SET lease_holder = 'nobody' WHERE fence = $1"
REDEEM_AGAIN = """
local rolled_back = {}
for _, entry in ipairs(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1000)) do
  local kind, code = string.match(entry[2][2], '^(%S+) %S+ %S+ (%S+)')
  local is_single = string.match(entry[2][2], '^R' .. string.rep(' %S+', 13) .. ' 1 ')
  if kind == 'B' then rolled_back[code] = true
  elseif is_single and not rolled_back[code] then
    return redis.call('XADD', KEYS[1], 'NOMKSTREAM', ARGV[1], 'e', string.match(entry[2][2], '^[^\\n]*') .. '\\n{}')
  end
end
"""
"""In one step, since the coupon may be rolled back at any time, and could be redeemed again then."""
_HOURS_MS = (-3_600_000, -61_000, -1000, 1000, 61_000, 3_600_000)


async def api_killed(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """SIGKILL of one API or the other, three times."""
    for _ in range(KILLS):
        await drill.until_more(20)
        number = dice.randrange(len(deployment.apis))
        await drill.begin_fault()
        await kill_api(deployment, number)


async def kill_api(deployment: Deployment, number: int) -> None:
    """Kill an API, start it again, and wait until it answers."""
    await deployment.apis[number].signal(signal.SIGKILL)
    deployment.apis[number].start()
    async with httpx.AsyncClient(timeout=PATIENCE_S, verify=False) as client:

        async def live() -> bool:
            return (await client.get(f"{deployment.urls[number]}/health/live")).status_code == 200

        await wait_until(live, "an API")


async def workers_killed(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """SIGKILL of the worker, three times; its lease is ended, so that the next begins at once."""
    for _ in range(KILLS):
        await drill.until_more(20)
        await asyncio.sleep(dice.uniform(0, 0.1))
        await drill.begin_fault()
        await deployment.kill_worker(wait_for_lease=False)


async def each_worker_killed(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """SIGKILL of each of three workers, once all have leases. Others take its leases, sometimes before it is started
    again. The gates stay open, so no request fails: of the killed worker's partitions or of others."""
    deployment.add_workers(WORKERS)
    unanswered = drill.ledger.unanswered.total()
    async with selling_beside(deployment, drill.wrong):
        for worker in deployment.workers:
            await wait_until(partial(_held_by, deployment, WORKERS), "leases of each worker")
            await drill.until_more(20)
            await asyncio.sleep(dice.uniform(0, 0.5))
            await drill.begin_fault()
            await worker.signal(signal.SIGKILL)
            if dice.random() < 0.5:
                await wait_until(partial(_held_by, deployment, WORKERS - 1), "others with its leases")
            worker.start()
    if drill.ledger.unanswered.total() > unanswered:
        drill.wrong.append(f"refused when a worker was killed: {dict(drill.ledger.unanswered)}")


async def _held_by(deployment: Deployment, workers: int) -> bool:
    """Whether all leases are live, and so many workers have them."""
    rows = await read_partitions(deployment.pool)
    return all(row.lease_live for row in rows) and len({row.lease_holder for row in rows}) == min(workers, PARTITIONS)


async def stopped_for_a_while(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """SIGSTOP of an API, a worker, Redis and Postgres in turn, up to three seconds; Redis then does what was sent."""
    processes = (partial(os.kill, process.pid) for process in (dice.choice(deployment.apis), deployment.worker))
    signals = [*processes, deployment.primary.signal, deployment.database.signal]
    dice.shuffle(signals)
    for send in signals:
        await drill.begin_fault(10)
        send(signal.SIGSTOP)
        try:
            await asyncio.sleep(dice.choice((0.2, 1.0, 3.0)))
        finally:
            send(signal.SIGCONT)


async def replies_lost(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """Redis does what it is asked, and its replies are lost with the connection: one API's, or all's."""
    for _ in range(CUTS):
        await drill.until_more(40)
        fronts = dice.choice(
            (
                [deployment.side],
                [deployment.front],
                [deployment.front, deployment.side],
                [deployment.front, deployment.side],
            )
        )
        for front in fronts:
            front.hold_replies()
        await asyncio.sleep(dice.uniform(0.1, 0.4))
        await drill.begin_fault()
        for front in fronts:
            front.cut()
            front.flow()


async def replies_late(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """Redis's and Postgres's replies come late, and connections break now and then."""
    fronts = [deployment.side, deployment.front, deployment.database.front]
    for _ in range(6):
        for front in fronts:
            front.delay_s = dice.choice((0.0, 0.005, 0.05))
        await drill.begin_fault(10)
        dice.choice(fronts).cut()
    for front in fronts:
        front.delay_s = 0.0


def clocks_stepped(*, with_redis: bool) -> Fault:
    """Clocks of APIs and the worker are stepped up to an hour: nothing goes by them. Perhaps Redis's: locks do."""

    async def inject(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
        clocked = [*([deployment.primary] if with_redis else []), *deployment.processes]
        try:
            for _ in range(6):
                await drill.begin_fault(15)
                dice.choice(clocked).clock.set(dice.choice(_HOURS_MS))
        finally:
            for one in clocked:
                one.clock.set(0)

    return inject


async def lease_ended(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """Two workers, and the lease ends while its holder is at work, three times: the other takes it at once."""
    deployment.add_workers(2)
    for _ in range(KILLS):
        await drill.until_more(30)
        fence = (await deployment.row()).fence
        await drill.begin_fault()

        async def taken(fence: int = fence) -> bool:  # its holder may renew it before another asks for it
            await deployment.pool.execute(_END_LEASE, fence)
            return (await deployment.row()).fence != fence

        await wait_until(taken, "another worker")
        await asyncio.sleep(dice.uniform(0, 1.0))


async def asleep_until_taken_over(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """The worker is stopped, if possible within a transaction, until another has its lease and has recorded with it;
    then it wakes up. Buyers are served while it sleeps."""
    deployment.add_workers(2)
    holder = (await deployment.row()).lease_holder or ""
    (sleeper,) = (worker for worker in deployment.workers if f":{worker.pid}:" in holder)
    fence = (await deployment.row()).fence
    await asyncio.sleep(dice.uniform(0, 0.1))
    await drill.begin_fault()
    await _stop_within_transaction(deployment, sleeper)
    try:
        unanswered = drill.ledger.unanswered.total()
        await drill.until_more(20)
        if drill.ledger.unanswered.total() > unanswered:
            drill.wrong.append(f"refused while the worker slept: {dict(drill.ledger.unanswered)}")

        async def taken() -> bool:
            row = await deployment.row()
            return row.fence != fence and row.state == "open"

        try:
            await wait_until(taken, "another worker")
        except AssertionError as never:
            other = next(worker for worker in deployment.workers if worker is not sleeper)
            log = other.output.read_text().splitlines()[-5:]
            raise AssertionError(f"{never}: {await deployment.row()}, and it logged {log}") from None
        await drill.until_more(20)
    finally:
        await sleeper.signal(signal.SIGCONT)
    await drill.until_more(20)


async def _stop_within_transaction(deployment: Deployment, worker: Process) -> None:
    """Stop a worker while it holds locks in Postgres; at any time if it can't be caught at that."""
    for _ in range(TRIES):
        await worker.signal(signal.SIGSTOP)
        if await deployment.pool.fetchval(_IN_TRANSACTION):
            return
        await worker.signal(signal.SIGCONT)
        await asyncio.sleep(0.007)
    await worker.signal(signal.SIGSTOP)


async def poisoned(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """Events that can't be recorded, one that is none and a second redemption, go into quarantine, and stop nothing."""
    client, outbox = deployment.primary.client, key_names.outbox(HOME)
    for _ in range(2):
        await drill.until_more(20)
        following = f"{(await deployment.row()).epoch}-*"
        await drill.begin_fault()
        await client.execute_command("XADD", outbox, "NOMKSTREAM", following, "e", "R 1 2 three\n{}")
        await wait_until(
            partial(client.eval, REDEEM_AGAIN, 1, outbox, following), "a redemption that was not rolled back"
        )
        await drill.begin_fault()
        drill.poisoned += 2
