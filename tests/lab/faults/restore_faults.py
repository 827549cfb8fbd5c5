"""Servers that are replaced by older copies of themselves (decision 0074, 0077-recover.md)."""

import asyncio
import math
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial

import msgspec

from loadtests.ledger import Entry, now_ms
from service.engine.formats.event_id import EventId, parse_event_id
from service.engine.formats.quarantined_event import read_names
from service.server.reconcile.comparison import reconcile
from tests.harness.running import HOME
from tests.harness.trees import Change
from tests.harness.waiting import PATIENCE_S
from tests.lab.faults.deployment import Deployment
from tests.lab.faults.looking import Drill
from tests.lab.faults.nodes import wait_until
from tests.lab.faults.rebuilding import live_url
from tests.lab.faults.redis_faults import UNWATCHED_S

KEEPS_LITTLE = (
    Change("service/engine/worker/write_behind.py", "KEEP_EVENTS = 100_000", "KEEP_EVENTS = 20"),
    Change("service/engine/worker/write_behind.py", "KEEP_S = 120", "KEEP_S = 1"),
)
"""So that the outbox soon drops what is recorded, as after minutes."""
ASKED_AGAIN = 100
"""How many sold codes are requested again."""
_ANSWERED = {"accepted", "fsynced"}
_REFUSALS = {"coupon_redeemed", "coupon_inactive", "recovering", "unavailable", "outcome_unknown"}
"""What a sold code may be answered."""

Doing = Callable[[], Awaitable[None]]
Sold = Mapping[str, Entry]
"""Responses by their redemptions."""


async def postgres_restored(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """Postgres is replaced by a base back-up that lacks more than the outbox has."""
    await _replace_postgres(deployment, drill, dice, deployment.database.back_up, deployment.database.restore)


async def standby_promoted(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """Postgres dies, and its standby takes its place, which lacks more than the outbox has."""
    await _replace_postgres(deployment, drill, dice, deployment.database.add_late_standby, deployment.database.promote)


async def redis_restored(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """Redis is stopped, and started on an older copy of its files: the worker restores it from Postgres."""
    file_ms, files = now_ms(), await deployment.primary.copy_files()
    await drill.until_more(dice.randrange(20, 120))
    epoch = (await deployment.row()).epoch
    async with _worker_away(deployment, dice):
        await drill.begin_fault()
        recorded = await _recorded(deployment)
        await deployment.primary.start_on(files)
    drill.may_lose |= _ANSWERED
    await deployment.until_reopened(epoch)
    await _sell_again(deployment, drill, _sold_and_recorded(drill, recorded), file_ms)


async def both_restored(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """Redis and Postgres are stopped, and started on copies of different times; either copy is the older one. If it is
    Redis's, what was answered after Postgres's copy is in neither."""
    if is_postgres_older := dice.random() < 0.5:
        since_ms, recorded = await _until_recorded(deployment), await _recorded(deployment)
        await deployment.database.back_up()
        await until_trimmed(deployment)
        file_ms, files = now_ms(), await deployment.primary.copy_files()
    else:
        file_ms, files = now_ms(), await deployment.primary.copy_files()
        await drill.until_more(dice.randrange(20, 80))
        since_ms, recorded = await _until_recorded(deployment), await _recorded(deployment)
        await deployment.database.back_up()
    await drill.until_more(dice.randrange(20, 80))
    epoch = (await deployment.row()).epoch
    async with drill.crowd.merchant:
        async with _worker_away(deployment, dice):
            await drill.begin_fault()
            await asyncio.gather(deployment.primary.kill(), deployment.database.kill())
            killed_ms = now_ms()
            restores = [partial(deployment.primary.start_on, files), deployment.database.restore]
            dice.shuffle(restores)
            for restore in restores:
                await restore()
        if is_postgres_older:
            await _recover(deployment, drill, dice, since_ms, file_ms)
            return
        await deployment.until_reopened(epoch)
        sold = _sold_and_recorded(drill, recorded)
        await _sell_again(deployment, drill, sold, file_ms)
        await _accept_loss(deployment, drill, since_ms, killed_ms, sold)


async def _replace_postgres(
    deployment: Deployment, drill: Drill, dice: random.Random, copy: Doing, replace: Doing
) -> None:
    since_ms = await _until_recorded(deployment)
    await copy()
    await until_trimmed(deployment)
    if dice.random() < 0.3:  # then the copy lacks an epoch, too
        epoch = (await deployment.row()).epoch
        await deployment.primary.client.script_flush()
        await deployment.until_reopened(epoch)
    async with drill.crowd.merchant:
        async with _worker_away(deployment, dice):
            await drill.begin_fault(20)
            await replace()
        await _recover(deployment, drill, dice, since_ms)


async def _recover(
    deployment: Deployment, drill: Drill, dice: random.Random, since_ms: float, until_ms: float = math.inf
) -> None:
    """Postgres has nothing since a time, and Redis has everything until another: readiness shows it, and nothing is
    sold again. Then the newer Postgres comes back, or an operator carries over what Redis has."""
    await until_reason(deployment, "postgres_older")
    await _sell_again(deployment, drill, _sold(drill, until_ms), since_ms)
    await asyncio.sleep(dice.uniform(0, UNWATCHED_S))
    epoch = (await deployment.row()).epoch
    if dice.random() < 0.5:
        await deployment.database.restore()
        if until_ms < math.inf:
            drill.may_lose |= _ANSWERED
            await deployment.until_reopened(epoch)
        await until_reason(deployment, "")
        # Partitions that lacked nothing may have been opened beside the older Postgres: the newer lacks their epochs.
        await deployment.command("recover", "--apply")
        return
    sold, closed_ms = _sold(drill, until_ms), now_ms()
    await deployment.command("recover", "--apply")
    await deployment.until_reopened(epoch)
    drill.crowd.paused = True  # it takes long beside a load
    compared = await reconcile(live_url(deployment), deployment.pool, HOME, repair=False)
    drill.crowd.paused = False
    if compared.left:
        drill.wrong.append(f"Redis differs after the recovery: {dict(compared.left)}")
    await _accept_loss(deployment, drill, since_ms, closed_ms, sold)


async def _accept_loss(deployment: Deployment, drill: Drill, since_ms: float, until_ms: float, sold: Sold) -> None:
    """Check that each of these sales is recorded, or its code blocked. Then take out of the ledger what answers of this
    time can't tell: books that the merchant changed, and the keys and redemptions of assignments, which were carried
    over without these."""
    recorded = await _recorded(deployment)
    blocked = {
        name.code for row in await deployment.pool.fetch("SELECT d FROM quarantine") for name in read_names(row["d"])
    }
    if free := [one.code for name, one in sold.items() if name not in recorded and one.code not in blocked]:
        drill.wrong.append(f"{len(free)} sold, neither recorded nor blocked: {free[:5]}")
    await _sell_again(deployment, drill, sold, since_ms)
    drill.may_lose |= _ANSWERED | {"recorded"}
    entries = drill.ledger.entries
    since = {id(entry) for entry in entries if since_ms < entry.answered_ms < until_ms}
    changed = {_book(entry) for entry in entries if entry.buyer == "Merchant" and id(entry) in since}
    entries[:] = [
        _without_key(entry, recorded) if entry.assignment and id(entry) in since else entry
        for entry in entries
        if entry.buyer != "Merchant" or _book(entry) not in changed
    ]


def _book(entry: Entry) -> str:
    return entry.book_id or entry.response.get("bookId", "")


def _without_key(entry: Entry, recorded: Collection[str]) -> Entry:
    redemption = entry.redemption
    is_lost = entry.op == "checkout" and redemption and redemption["redemptionId"] not in recorded
    return msgspec.structs.replace(entry, key="", response=entry.response | ({"redemption": None} if is_lost else {}))


def _sold(drill: Drill, until_ms: float = math.inf) -> Sold:
    """What was sold until a time, but for what is given back, and for the merchant's books."""
    return {
        redemption["redemptionId"]: entry
        for entry in drill.ledger.entries
        if (redemption := entry.redemption) and entry.answered_ms < until_ms
        if entry.buyer not in ("Returner", "Merchant")
    }


def _sold_and_recorded(drill: Drill, recorded: Collection[str]) -> Sold:
    return {name: entry for name, entry in _sold(drill).items() if name in recorded}


async def _sell_again(deployment: Deployment, drill: Drill, sold: Sold, since_ms: float) -> None:
    """Redeem codes of one use that were sold since then, again, outside of the ledger: each is refused."""
    single = {book.book_id for book in drill.books if book.per_code == 1}
    entries = [entry for entry in sold.values() if entry.answered_ms > since_ms and entry.book_id in single]
    async with deployment.client() as client:
        for number, entry in enumerate(random.Random(0).sample(entries, min(ASKED_AGAIN, len(entries)))):
            url = f"{deployment.urls[number % len(deployment.urls)]}/v1/coupons/redeem/{entry.code}"
            response = await client.post(url, json={"userId": entry.user, "orderValue": "20.00"})
            if response.status_code == 201:
                drill.wrong.append(f"sold twice: {entry.code}")
            elif response.json()["code"] not in _REFUSALS:
                drill.wrong.append(f"a sold code was answered {response.text[:300]}")


@asynccontextmanager
async def _worker_away(deployment: Deployment, dice: random.Random) -> AsyncIterator[None]:
    """In every other round no worker runs until some seconds later."""
    is_away = dice.random() < 0.5
    if is_away:
        await deployment.worker.signal(signal.SIGKILL)
    yield
    if is_away:
        await asyncio.sleep(dice.uniform(0, UNWATCHED_S))
        await deployment.start_worker(wait_for_lease=False)


async def _recorded(deployment: Deployment) -> set[str]:
    """The redemptions in Postgres."""
    return {str(row[0]) for row in await deployment.pool.fetch("SELECT redemption_id FROM redemptions")}


async def _until_recorded(deployment: Deployment) -> float:
    """Wait until Postgres has every event that the outbox has now. Returns the time of the call, in ms."""
    at_ms, newest = now_ms(), parse_event_id([*await deployment.primary.outbox()][-1])

    async def is_recorded() -> bool:
        return (await deployment.row()).cursor >= newest

    await wait_until(is_recorded, "all events in Postgres")
    return at_ms


async def until_trimmed(deployment: Deployment, patience_s: float = PATIENCE_S) -> None:
    """Wait until the outbox begins after what is recorded now."""
    await wait_until(
        partial(_begins_after, deployment, (await deployment.row()).cursor), "a trimmed outbox", patience_s
    )


async def _begins_after(deployment: Deployment, cursor: EventId) -> bool:
    return parse_event_id(next(iter(await deployment.primary.outbox()))) > cursor


async def until_reason(deployment: Deployment, reason: str) -> None:
    """Wait until all APIs give this reason why the partition is not served; '' for none."""
    async with deployment.client() as client:

        async def has_reason() -> bool:
            for url in deployment.urls:
                partitions = (await client.get(f"{url}/health/ready")).json()["partitions"]
                if {one["partition"]: one["reason"] for one in partitions}.get(HOME, "") != reason:
                    return False
            return True

        await wait_until(has_reason, f"the reason '{reason}'")
