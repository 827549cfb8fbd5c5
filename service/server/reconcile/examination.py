"""Compare suspected things at two cuts, and report a difference only if it is the same at both. comparison.py makes one
Examiner for a workspace, and each part of a comparison (`*_differences.py`, wrong_types.py) is a Subject. `Item`,
`Snapshot` and RedisInspector, which reads Redis, are in service/engine/hot/inspection.py."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, cast

import asyncpg

from service.engine.formats import key_names
from service.engine.formats.coupon_state import About, Class, Difference
from service.engine.formats.event_id import NO_EVENT, START, EventId
from service.engine.formats.quarantined_event import read_names
from service.engine.hot.inspection import WRONG, Item, RedisInspector, Snapshot
from service.engine.record.facts.quarantined_events import page_quarantine
from service.engine.record.partitions.openings import has_deletions_after
from service.engine.record.partitions.partition_rows import read_partition
from service.server.in_postgres.bulk_reads import BulkReads, PrimaryReads

TRIES = 12
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0
RECORDED_S, POLL_S = 60.0, 0.01
AT_ONCE = 3
"""Reads of a Subject under way at the same time."""
MAX_REPORTED = 1000
"""Differences that are reported singly; all are counted."""
MAX_NAMED = 100_000
"""If quarantined events name more, everything of the workspace counts as named."""

UndecidableNow = Literal["undecidable now"]
UNDECIDABLE_NOW: UndecidableNow = "undecidable now"
"""To be compared again: Redis lacks configuration, or a user is being deleted."""


class NotRecorded(Exception):
    """The record has not reached the cut in time. Nothing can be compared."""


def pair_up(flat: Sequence[str]) -> dict[str, str]:
    """The mapping in a flat reply of names and values by turns."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


class Subject(ABC):
    """What is compared of one workspace: codes, users, books, or others. A thing is one of them, named as the subclass
    chooses: a code, a book's number, a field of a hash. The subclass says which items to read of a thing, what the
    record expects, and how they differ."""

    at_once: int
    """Things in one read."""

    def __init__(self, examiner: "Examiner") -> None:
        self._examiner, self._inspector, self._pool = examiner, examiner.inspector, examiner.pool
        self._workspace, self._partition = examiner.workspace, examiner.partition
        self._w = key_names.prefix(self._partition, self._workspace)

    @abstractmethod
    def items(self, thing: Any) -> Sequence[Item]:
        """What to read of a thing."""

    @abstractmethod
    async def fetch_expected(self, at: EventId, things: Sequence[Any]) -> Any:
        """What the record expects of these things after an event."""

    @abstractmethod
    def find_difference(
        self, thing: Any, expected: Any, snapshot: Snapshot, values: Sequence[Any]
    ) -> Difference | UndecidableNow | None:
        """How the values differ from what is expected; None if they don't."""


class QuarantineExclusions:
    """One workspace's codes, users, orders and books that quarantined events name: Redis or the record may be wrong of
    it."""

    def __init__(self, pool: asyncpg.Pool, partition: int, workspace: int) -> None:
        self._pool, self._partition, self._workspace = pool, partition, workspace
        self._named: set[About] = set()
        self._after = START

    async def read_on(self) -> None:
        """Read the events since the last call."""
        async for page in page_quarantine(self._pool, self._partition, self._after):
            for at, d in page:
                self._after = at
                if len(self._named) < MAX_NAMED:
                    self._add(d)

    def names(self, about: Sequence[About]) -> bool:
        """Whether an event that was read names any of these."""
        return len(self._named) >= MAX_NAMED or any(one in self._named for one in about)

    def _add(self, d: bytes) -> None:
        for names in read_names(d):
            if names.workspace == self._workspace:
                about = About("code", names.code), About("user", names.user), About("order", names.order)
                self._named |= {About("book", str(names.book)), *(one for one in about if one.name not in ("", "-"))}


class Examiner:
    """For one workspace. Some hundred things at a time:

    1. One script reads them, with the outbox's last event.
    2. When that event is recorded, the record returns what it expects after exactly that event.
    3. Different things are read again, at another cut, and reported if they differ in the same way. While users are
       being deleted, they wait. What is not settled after 12 tries is left for the next comparison.
    4. A repair writes only values that are unchanged since they were read; changed ones are read again. What a
       quarantined event names is never repaired. Nothing is reported or repaired once a task of the worker has begun to
       change Redis by the record.
    """

    def __init__(
        self,
        inspector: RedisInspector,
        pool: asyncpg.Pool,
        workspace: int,
        repair: bool,
        report: Callable[[Difference, str], None],
        raise_if_void: Callable[[], Awaitable[None]],
        count: Callable[[int], None] = lambda _things: None,
        bulk: BulkReads | None = None,
    ) -> None:
        """`raise_if_void` raises an error if the comparison no longer counts. `count` is called with the number of
        codes or orders that were compared. `bulk`: where first passes read; None: the primary."""
        self.inspector, self.pool, self.workspace, self.repair = inspector, pool, workspace, repair
        self.partition = inspector.partition
        self.primary = PrimaryReads(pool, inspector.partition)
        self.bulk = bulk or self.primary
        self._report, self.raise_if_void, self.count = report, raise_if_void, count
        self.differing, self.left = Counter[Class](), Counter[Class]()
        self.unsettled = 0
        self.at: EventId = NO_EVENT
        """The last cut."""
        self.quarantine = QuarantineExclusions(pool, self.partition, workspace)

    async def cut(self) -> Snapshot:
        """Return the current cut, once it is recorded. Raises NotRecorded."""
        cut = await self.inspector.read_values([])
        await self.wait_until_recorded(cut.at)
        return cut

    async def wait_until_recorded(self, at: EventId) -> None:
        """Wait until an event is recorded. Raises NotRecorded."""
        deadline = time.monotonic() + RECORDED_S
        while (await read_partition(self.pool, self.partition)).cursor < at:
            if time.monotonic() > deadline:
                raise NotRecorded(f"{at} is not recorded after {RECORDED_S:.0f} s")
            await asyncio.sleep(POLL_S)
        self.at = max(self.at, at)

    async def examine(self, kind: Subject, things: Sequence[Any]) -> None:
        """Compare things that may differ, and report or repair the differences."""
        suspected: dict[Any, tuple[Class, ...]] = {}
        pause_s, waiting = FIRST_PAUSE_S, list(things)
        for _ in range(TRIES):
            again: list[Any] = []
            batches = [waiting[start : start + kind.at_once] for start in range(0, len(waiting), kind.at_once)]
            for start in range(0, len(batches), AT_ONCE):
                comparing = [self._compare_once(kind, batch, suspected) for batch in batches[start : start + AT_ONCE]]
                ended = await asyncio.gather(
                    *comparing, return_exceptions=True
                )  # none goes on after an error of another
                if failed := next((one for one in ended if isinstance(one, BaseException)), None):
                    raise failed
                again += [thing for some in cast("list[list[Any]]", ended) for thing in some]
            if not again:
                return
            waiting = again
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        self.unsettled += len(waiting)

    async def _compare_once(
        self, kind: Subject, things: Sequence[Any], suspected: dict[Any, tuple[Class, ...]]
    ) -> list[Any]:
        """Return the things to compare again."""
        items = [kind.items(thing) for thing in things]
        snapshot = await self.inspector.read_values([item for some in items for item in some])
        await self.wait_until_recorded(snapshot.at)
        expected = await kind.fetch_expected(snapshot.at, things)
        is_deleting = await has_deletions_after(self.pool, self.partition, snapshot.at, self.workspace)
        again: list[Any] = []
        start_index = 0
        for thing, some in zip(things, items, strict=True):
            values = snapshot.values[start_index : start_index + len(some)]
            start_index += len(some)
            if WRONG in values:
                continue  # service/server/reconcile/wrong_types.py reports it
            difference = kind.find_difference(thing, expected, snapshot, values)
            if difference is None:
                continue
            if difference == UNDECIDABLE_NOW or is_deleting:
                again.append(thing)
            elif suspected.get(thing) != difference.classes:
                suspected[thing] = difference.classes
                again.append(thing)
            elif not await self._settle(difference):
                again.append(thing)
        return again

    async def _settle(self, difference: Difference) -> bool:
        """Report the difference, and repair it on request; False if the values have changed."""
        state = "found"
        await self.raise_if_void()
        await self.quarantine.read_on()
        if self.quarantine.names(difference.about):
            difference = difference._replace(unsafe="an event of it is in quarantine")
        if self.repair and not difference.unsafe:
            if not await self.inspector.repair(difference.writes):
                return False
            state = "mended"
        self.count_and_report(difference, state)
        return True

    def count_and_report(self, difference: Difference, state: str) -> None:
        """Count a difference, and report it if it is among the first."""
        self.differing.update(difference.classes)
        if state != "mended":
            self.left.update(difference.classes)
        if self.differing.total() <= MAX_REPORTED:
            self._report(difference, state)
