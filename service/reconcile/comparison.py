"""One comparison of a partition, from taking its turn to saying what was found."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID, uuid4

import asyncpg
import structlog

from service.formats import key_names
from service.formats.coupon_state import Class, Difference
from service.formats.event_id import NO_EVENT, EventId
from service.formats.key_names import Key
from service.hot.connection import connect
from service.hot.inspection import Looker
from service.reconcile.bucket_walk import SMALL, Found, buckets_of
from service.reconcile.counter_differences import Books, Configuration, Keys
from service.reconcile.coupon_differences import Coupons
from service.reconcile.examination import Examiner
from service.reconcile.use_differences import Uses
from service.reconcile.user_differences import Users
from service.reconcile.wrong_types import WrongTypes, by_workspace
from service.record.partitions import comparisons as record
from service.record.partitions.partition_rows import read_partition

TURN_MS = 10_000
RENEW_S = TURN_MS / 1000 / 4
MAX_STRANGE = 100_000
"""Names that are remembered, of things that the record doesn't have."""

log = structlog.get_logger()


class Busy(Exception):
    """The partition is being compared already."""


class NotOpen(Exception):
    """The partition's Redis is not verified: there is nothing to compare."""


class Outcome(NamedTuple):
    """What differed by class, and what of it still does; how many things were never still long enough to say; the last
    cut."""

    found: Counter[Class]
    left: Counter[Class]
    unsettled: int
    at: EventId


Tell = Callable[[Difference, str], None]
Progress = Callable[[int, int], None]


def log_difference(partition: int, found: Difference, state: str) -> None:
    """A line for each: an alarm, but where it was mended."""
    say = log.warning if state == "mended" else log.error
    say("drift", partition=partition, classes=list(found.classes), thing=found.thing, state=found.unsafe or state)


async def reconcile(
    redis_url: str,
    pool: asyncpg.Pool,
    partition: int,
    *,
    repair: bool,
    workspace: int | None = None,
    tell: Tell | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Outcome:
    """Compare a partition's Redis with the record, or one workspace's part; with `repair` mend what differs.

    Raises Busy, NotOpen, Fenced and Broken where Redis is no longer the one that was verified, LostTurn, NotRecorded.
    """
    token = uuid4()
    if not await record.begin(pool, partition, token, TURN_MS):
        raise Busy(f"partition {partition} is being compared")
    work = _Work(pool, partition, token, progress)
    renewing = asyncio.create_task(work.renew())
    comparing = asyncio.create_task(_compare(redis_url, pool, partition, repair, workspace, tell, work))
    whole = False
    try:
        await asyncio.wait({renewing, comparing}, return_when=asyncio.FIRST_COMPLETED)
        if not comparing.done():
            renewing.result()
        outcome = await comparing
        whole = workspace is None
        return outcome
    finally:
        for task in (renewing, comparing):
            task.cancel()
        await asyncio.gather(renewing, comparing, return_exceptions=True)
        with contextlib.suppress(Exception):  # the turn ends by itself
            await record.end(pool, partition, token, whole)


class _Work:
    """How far it is, and whether it is still ours to do."""

    def __init__(self, pool: asyncpg.Pool, partition: int, token: UUID, progress: Progress) -> None:
        self._pool, self._partition, self._token, self._progress = pool, partition, token, progress
        self.done, self.total = 0, 0

    def count(self, more: int) -> None:
        """So much more is done."""
        self.done = min(self.done + more, self.total)
        self._progress(self.done, self.total)

    async def renew(self) -> None:
        """Keep the turn until cancelled. Raises LostTurn."""
        while True:
            await asyncio.sleep(RENEW_S)
            await record.advance(self._pool, self._partition, self._token, TURN_MS, self.done, self.total)


async def _compare(
    redis_url: str,
    pool: asyncpg.Pool,
    partition: int,
    repair: bool,
    workspace: int | None,
    tell: Tell | None,
    work: _Work,
) -> Outcome:
    row = await read_partition(pool, partition)
    if row.state != "open":
        raise NotOpen(f"partition {partition} is being opened")
    workspaces = [workspace] if workspace is not None else await record.workspaces_of(pool, partition)
    sizes = await record.count_compared(pool, workspaces)
    work.total = sum(sizes.values())
    connection = await connect(redis_url, "scrip-reconcile")
    try:
        looker = Looker(connection, partition, row.epoch, row.nonce)
        await looker.start()
        there = await buckets_of(looker, {number for number in workspaces if sizes[number] <= SMALL})
        parts = {number: _Part(looker, pool, number, repair, tell, there.get(number)) for number in workspaces}
        async for page in looker.walk_keys(key_names.TYPES):
            for number, some in by_workspace(page).items():
                if number in parts:
                    await parts[number].wrong_types.suspect(some)
        for part in parts.values():
            await part.compare(work.count)
        async for page in looker.walk_keys({"c", "s", "u"}):
            for number, some in by_workspace(page).items():
                if number in parts:
                    await parts[number].strays(some)
        outcomes = [await part.finish() for part in parts.values()]
    finally:
        connection.close()
    found, left = Counter[Class](), Counter[Class]()
    for outcome in outcomes:
        found, left = found + outcome.found, left + outcome.left
    work.count(work.total - work.done)
    return Outcome(found, left, sum(o.unsettled for o in outcomes), max((o.at for o in outcomes), default=NO_EVENT))


class _Part:
    """One workspace's part of it. What others are counted from comes first, so that it is mended before these."""

    def __init__(
        self, looker: Looker, pool: asyncpg.Pool, workspace: int, repair: bool, tell: Tell | None, there: Found | None
    ) -> None:
        self._looker, self._pool, self._workspace, self._tell = looker, pool, workspace, tell
        self._examiner = examiner = Examiner(looker, pool, workspace, repair, self._told)
        self.wrong_types = WrongTypes(examiner)
        self._coupons = Coupons(examiner, None if there is None else there["d"])
        self._users = Users(examiner)
        self._strange: set[Key] = set()
        self._kinds = (
            Configuration(examiner),
            self._coupons,
            Uses(examiner, None if there is None else there["o"] | there["g"]),
            self._users,
            Keys(examiner),
        )

    def _told(self, found: Difference, state: str) -> None:
        log_difference(self._looker.partition, found, state)
        if self._tell:
            self._tell(found, state)

    async def compare(self, done: Callable[[int], None]) -> None:
        """Everything but strays and counters. What can't be read comes first, so that it is there for the rest."""
        await self.wrong_types.compare()
        for kind in self._kinds:
            await kind.compare(done)

    async def strays(self, some: list[Key]) -> None:
        """Records (`c`) and standing redemptions (`s`) of codes, and users (`u`), that Redis has. Where a walk comes to
        a name twice, it is examined once."""
        fresh = [key for key in some if key not in self._strange]
        for kinds, compare in ((("c", "s"), self._coupons.strays), (("u",), self._users.strays)):
            names = [key.parts[0] for key in fresh if key.kind in kinds]
            strange = set(await compare(names)) if names else set()
            room = MAX_STRANGE - len(self._strange)
            self._strange.update([key for key in fresh if key.kind in kinds and key.parts[0] in strange][:room])

    async def finish(self) -> Outcome:
        """The pools and counters, which follow from the rest; then keep what was found."""
        examiner, partition = self._examiner, self._looker.partition
        await self._coupons.pools()
        await Books(examiner).compare()
        if not await self._looker.gate_is_ours():
            raise NotOpen(f"partition {partition} was closed meanwhile")
        outcome = Outcome(examiner.found, examiner.left, examiner.unsettled, examiner.at)
        await record.keep(self._pool, self._workspace, partition, outcome.at, outcome.found, outcome.left)
        log.info(
            "reconciled",
            partition=partition,
            workspace=self._workspace,
            to=str(outcome.at),
            unsettled=outcome.unsettled,
            found=dict(outcome.found),
            left=dict(outcome.left),
        )
        return outcome
