"""One comparison of a partition, up to the stored result. `scrip reconcile` (cli/reconcile.py) calls this; a worker
starts that (comparison_runner.py). Classes of differences are stored, and names in the API, metrics and webhooks. The
parts come in an order: what others are counted from is repaired first."""

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from logging import ERROR, WARNING
from typing import NamedTuple

import asyncpg
import structlog

from service.engine.formats import key_names
from service.engine.formats.coupon_state import Class, Difference
from service.engine.formats.event_id import NO_EVENT, EventId
from service.engine.formats.key_names import Key
from service.engine.hot.connection import connect
from service.engine.hot.inspection import RedisInspector
from service.engine.record.partitions.partition_rows import read_partition
from service.server.reconcile.bucket_walk import SMALL, BucketsByKind, buckets_of
from service.server.reconcile.counter_differences import Books, Configuration, Keys
from service.server.reconcile.coupon_differences import Coupons
from service.server.reconcile.examination import Examiner
from service.server.reconcile.use_differences import Uses
from service.server.reconcile.user_differences import Users
from service.server.reconcile.wrong_types import WrongTypes, group_by_workspace
from service.server.record import comparisons as record
from service.server.record.bulk_reads import BulkReads, PrimaryReads, ReplicaReads
from service.server.record.workspace_rows import learn_names

MAX_STRAYS = 100_000
"""Examined strays that are remembered, so that none is examined twice."""

log = structlog.get_logger()


class Busy(Exception):
    """Books are leaving Redis."""


class NotOpen(Exception):
    """The partition's Redis is not verified. There is nothing to compare."""


class Outcome(NamedTuple):
    """By class, how many things differed and still do; how many changed too fast to compare; and the last cut."""

    differing: Counter[Class]
    left: Counter[Class]
    unsettled: int
    at: EventId


Report = Callable[[Difference, str], None]
Progress = Callable[[int, int], None]


async def reconcile(
    redis_url: str,
    pool: asyncpg.Pool,
    partition: int,
    *,
    repair: bool,
    workspace: int | None = None,
    report: Report = lambda _difference, _state: None,
    progress: Progress = lambda _done, _total: None,
    replica: asyncpg.Pool | None = None,
) -> Outcome:
    """Compare a partition's Redis with the record, or one workspace's part; with `repair`, repair differences. First
    passes read `replica` if there is one.

    Raises Busy, NotOpen, NotRecorded, ReplicaBehind, ReplicaAway; Fenced and Broken if Redis is no longer the verified
    one.
    """
    await learn_names(pool)
    bulk = ReplicaReads(pool, replica, partition) if replica else PrimaryReads(pool, partition)
    work = _Work(pool, bulk, partition, repair, report, progress)
    outcome = await work.compare(redis_url, workspace)
    if workspace is None:
        await record.note_comparison(pool, partition)
    return outcome


class _Work:
    """One comparison: its progress and its differences."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        bulk: BulkReads,
        partition: int,
        repair: bool,
        report: Report,
        progress: Progress,
    ) -> None:
        self.pool, self.bulk, self._partition, self.repair = pool, bulk, partition, repair
        self._report, self._progress = report, progress
        self._done, self._total, self._removals = 0, 0, 0

    def count(self, more: int) -> None:
        self._done = min(self._done + more, self._total)
        self._progress(self._done, self._total)

    def report(self, workspace: int, difference: Difference, state: str) -> None:
        """Log a difference, as an alarm unless it was repaired, and report it."""
        fields = {"classes": list(difference.classes), "thing": difference.thing, "state": difference.unsafe or state}
        about = {"partition": self._partition, "workspace": workspace}
        log.log(WARNING if state == "mended" else ERROR, "drift", **about, **fields)
        self._report(difference, state)

    async def raise_if_void(self) -> None:
        """Raises Busy if books are leaving Redis, or began to since the comparison did."""
        removals = await record.read_removals(self.pool, self._partition)
        if removals.are_running or removals.begun != self._removals:
            raise Busy(f"archived books of partition {self._partition} are leaving Redis; retry when that is done")

    async def compare(self, redis_url: str, workspace: int | None) -> Outcome:
        row = await read_partition(self.pool, self._partition)
        if row.state != "open":
            raise NotOpen(f"partition {self._partition} is being opened")
        self._removals = (await record.read_removals(self.pool, self._partition)).begun
        await self.raise_if_void()
        workspaces = [workspace] if workspace is not None else await record.workspaces_of(self.pool, self._partition)
        sizes = await self.bulk.count_compared(workspaces)
        self._total = sum(sizes.values())
        with closing(await connect(redis_url, "scrip-reconcile", partition=self._partition)) as connection:
            inspector = RedisInspector(connection, self._partition, row.epoch, row.nonce)
            await self._start(inspector)
            existing = await buckets_of(inspector, {number for number in workspaces if sizes[number] <= SMALL})
            parts = {number: _Part(self, inspector, number, existing.get(number)) for number in workspaces}
            async for page in inspector.walk_keys(key_names.TYPES):
                for number, some in group_by_workspace(page).items():
                    if number in parts:
                        await parts[number].wrong_types.suspect(some)
            for part in parts.values():
                await part.compare()
            async for page in inspector.walk_keys({"c", "s", "u"}):
                for number, some in group_by_workspace(page).items():
                    if number in parts:
                        await parts[number].strays(some)
            outcomes = [await part.finish() for part in parts.values()]
        differing, left = Counter[Class](), Counter[Class]()
        for outcome in outcomes:
            differing, left = differing + outcome.differing, left + outcome.left
        self.count(self._total)
        at = max((outcome.at for outcome in outcomes), default=NO_EVENT)
        return Outcome(differing, left, sum(outcome.unsettled for outcome in outcomes), at)

    async def _start(self, inspector: RedisInspector) -> None:
        """Before a repair, remove expired locks."""
        await inspector.start()
        if self.repair:
            await inspector.sweep_locks()


class _Part:
    """One workspace's part. Things that others are counted from come first, so that they are repaired before these.
    Keys of wrong types come before all, so that the rest can be read."""

    def __init__(self, work: _Work, inspector: RedisInspector, workspace: int, existing: BucketsByKind | None) -> None:
        self._inspector, self._pool, self._workspace = inspector, work.pool, workspace
        report = partial(work.report, workspace)
        self._examiner = examiner = Examiner(
            inspector, work.pool, workspace, work.repair, report, work.raise_if_void, work.count, work.bulk
        )
        self.wrong_types = WrongTypes(examiner)
        self._coupons = Coupons(examiner, None if existing is None else existing["d"])
        self._users = Users(examiner)
        self._strays: set[Key] = set()
        self._kinds = (
            self.wrong_types,
            Configuration(examiner),
            self._users,
            self._coupons,
            Uses(examiner, None if existing is None else existing["o"] | existing["g"]),
            Keys(examiner),
        )

    async def compare(self) -> None:
        """Compare everything except strays and counters."""
        for kind in self._kinds:
            await kind.compare()

    async def strays(self, some: list[Key]) -> None:
        """Examine Redis's records (`c`) and standing redemptions (`s`) of codes, and users (`u`), each name once."""
        fresh = [key for key in some if key not in self._strays]
        for kinds, compare in ((("c", "s"), self._coupons.strays), (("u",), self._users.strays)):
            names = [key.parts[0] for key in fresh if key.kind in kinds]
            strays = set(await compare(names)) if names else set()
            room = MAX_STRAYS - len(self._strays)
            self._strays.update([key for key in fresh if key.kind in kinds and key.parts[0] in strays][:room])

    async def finish(self) -> Outcome:
        """Compare pools and counters, which follow from the rest; then store the result."""
        examiner, partition = self._examiner, self._inspector.partition
        await self._coupons.pools()
        await Books(examiner).compare()
        if not await self._inspector.gate_is_ours():
            raise NotOpen(f"partition {partition} was closed meanwhile")
        await examiner.raise_if_void()
        outcome = Outcome(examiner.differing, examiner.left, examiner.unsettled, examiner.at)
        await record.store_outcome(self._pool, self._workspace, partition, outcome.at, outcome.differing, outcome.left)
        log.info(
            "reconciled",
            partition=partition,
            workspace=self._workspace,
            to=str(outcome.at),
            unsettled=outcome.unsettled,
            found=dict(outcome.differing),
            left=dict(outcome.left),
        )
        return outcome
