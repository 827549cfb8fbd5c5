"""One comparison of a partition, up to the stored result. `scrip reconcile` (cli/reconcile.py) calls this; a worker
starts that (comparison_runner.py). Classes of differences are stored, and names in the API, metrics and webhooks. The
parts come in an order: what others are counted from is repaired first."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from logging import ERROR, WARNING
from typing import NamedTuple, TypeVar

import asyncpg
import structlog

from service.engine.formats import key_names
from service.engine.formats.coupon_state import Class, Difference
from service.engine.formats.event_id import NO_EVENT, EventId
from service.engine.formats.key_names import Key
from service.engine.hot.connection import connect
from service.engine.hot.inspection import RedisInspector
from service.engine.record.partitions.partition_rows import read_partition
from service.engine.worker.set_aside import SetAside, Thing
from service.server.in_postgres import comparisons as record
from service.server.in_postgres.bulk_reads import BulkReads, PrimaryReads, ReplicaAway, ReplicaBehind, ReplicaReads
from service.server.in_postgres.workspace_rows import learn_names
from service.server.reconcile.bucket_walk import SMALL, BucketsByKind, buckets_of
from service.server.reconcile.budget_differences import Budgets
from service.server.reconcile.counter_differences import Books, Configuration, HeldSums, Keys
from service.server.reconcile.coupon_differences import Coupons
from service.server.reconcile.examination import Examiner, NotRecorded
from service.server.reconcile.use_differences import Uses
from service.server.reconcile.user_differences import Users
from service.server.reconcile.wrong_types import WrongTypes, group_by_workspace

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
    failed: Sequence[int] = ()
    """The workspaces that could not be compared, and are compared again later."""


T = TypeVar("T")
_OF_ALL = (Busy, NotOpen, NotRecorded, ReplicaBehind, ReplicaAway)
"""Errors that concern all workspaces."""
Report = Callable[[Difference, str], None]
Progress = Callable[[int, int], None]


async def reconcile(
    redis_url: str,
    pool: asyncpg.Pool,
    partition: int,
    *,
    repair: bool,
    workspace: int | None = None,
    is_retry: bool = False,
    report: Report = lambda _difference, _state: None,
    progress: Progress = lambda _done, _total: None,
    replica: asyncpg.Pool | None = None,
) -> Outcome:
    """Compare a partition's Redis with the record, or one workspace's part, or those that failed before and are due
    again; with `repair`, repair differences. First passes read `replica` if there is one. A workspace that can't be
    compared is set aside.

    Raises Busy, NotOpen, NotRecorded, ReplicaBehind, ReplicaAway; Fenced and Broken if Redis is no longer the verified
    one.
    """
    await learn_names(pool)
    bulk = ReplicaReads(pool, replica, partition) if replica else PrimaryReads(pool, partition)
    work = _Work(pool, bulk, partition, repair, report, progress)
    if is_retry:
        workspaces = await record.workspaces_to_retry(pool, partition)
    else:
        workspaces = [workspace] if workspace is not None else await record.workspaces_of(pool, partition)
    outcome = await work.compare(redis_url, workspaces)
    if workspace is None and not is_retry:
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
        self._aside = SetAside(pool, partition, "reconciling", raised=_OF_ALL)
        self._parts: dict[int, _Part] = {}
        """Of the workspaces at which nothing has failed."""

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

    async def compare(self, redis_url: str, workspaces: Sequence[int]) -> Outcome:
        row = await read_partition(self.pool, self._partition)
        if row.state != "open":
            raise NotOpen(f"partition {self._partition} is being opened")
        self._removals = (await record.read_removals(self.pool, self._partition)).begun
        await self.raise_if_void()
        sizes = await self.bulk.count_compared(workspaces)
        self._total = sum(sizes.values())
        with closing(await connect(redis_url, "scrip-reconcile", partition=self._partition)) as connection:
            inspector = RedisInspector(connection, self._partition, row.epoch, row.nonce)
            await inspector.start()
            existing = await buckets_of(inspector, {number for number in workspaces if sizes[number] <= SMALL})
            self._parts = {number: _Part(self, inspector, number, existing.get(number)) for number in workspaces}
            if self.repair:  # before it, as no repair changes expired locks
                await inspector.sweep_locks(lambda locks: self._within(locks.workspace))
            async for page in inspector.walk_keys(key_names.TYPES):
                await self._each(group_by_workspace(page), lambda part, some: part.wrong_types.suspect(some))
            await self._each(dict.fromkeys(workspaces, None), lambda part, _: part.compare())
            async for page in inspector.walk_keys({"c", "s", "u"}):
                await self._each(group_by_workspace(page), lambda part, some: part.strays(some))
            outcomes: list[Outcome] = []
            for number in list(self._parts):
                async with self._within(number, is_last=True):
                    outcomes.append(await self._parts[number].finish())
        differing, left = Counter[Class](), Counter[Class]()
        for outcome in outcomes:
            differing, left = differing + outcome.differing, left + outcome.left
        self.count(self._total)
        at = max((outcome.at for outcome in outcomes), default=NO_EVENT)
        failed = [number for number in workspaces if number not in self._parts]
        return Outcome(differing, left, sum(outcome.unsettled for outcome in outcomes), at, failed)

    async def _each(self, things: Mapping[int, T], work: "Callable[[_Part, T], Awaitable[object]]") -> None:
        """Work on something of each workspace."""
        for number, some in things.items():
            if number in self._parts:
                async with self._within(number):
                    await work(self._parts[number], some)

    @asynccontextmanager
    async def _within(self, workspace: int, is_last: bool = False) -> AsyncIterator[None]:
        """Work on a workspace, which is left out from now on if that fails."""
        async with self._aside.contain(Thing(f"workspace {workspace}", workspace), is_last=is_last):
            try:
                yield
            except Exception:
                self._parts.pop(workspace, None)
                raise


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
            Budgets(examiner),
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
        await HeldSums(examiner).compare()
        if not await self._inspector.gate_serves_epoch():
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
