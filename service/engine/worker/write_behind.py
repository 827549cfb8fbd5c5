"""Move the outbox into Postgres. partition_worker.py runs a Flusher, and partition_opening.py drains with it. The
digest of the last entry is stored: the anchor must stay in the outbox byte for byte, and no number may be missing."""

import asyncio
import math
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Sequence

import asyncpg
import hiredis
import structlog

from service.engine.formats.event_id import NO_EVENT, EventId, parse_event_id
from service.engine.formats.events import Entry, entry_digest, split_entry
from service.engine.hot import outbox as redis
from service.engine.hot.outbox import Fields, Outbox, Read
from service.engine.hot.unrecorded import State, Unrecorded
from service.engine.record import pool as postgres
from service.engine.record.facts.event_writer import (
    EVENT_ERRORS,
    NeedsSmallerBatch,
    RejectedEvent,
    record,
    refusal_reason,
)
from service.engine.record.partitions.partition_rows import LeaseLost, enter_epoch, read_partition
from service.engine.worker import metrics
from service.engine.worker.opening.standbys import Standbys
from service.engine.worker.task_supervisor import Backoff, reason_of
from service.engine.worker.waiting import is_cancelled

BATCH_EVENTS = 5000
BLOCK_MS = 1800
"""Less than STALL_S in service/engine/hot/connection.py: a longer wait looks like a broken connection."""
CHECK_S = 10.0
"""While idle, the anchor and the cursor are read so often. A lost lease is noticed by the keeper, and any other loss
before the next event is recorded."""
# The pause between batches that are not full. Some hundred commits a second would cost more than their events: a
# transaction costs Postgres and the worker as much as sixty events. After more events the pause is longer.
PAUSE_S, PAUSE_EACH_S, LONGEST_PAUSE_S = 0.01, 0.0002, 0.1
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.05, 2.0
ACQUIRE_TIMEOUT_S = 10.0

KEEP_S = 120
KEEP_EVENTS = 100_000
# One bad event is the event's fault. So many in a row, beside those of the workspace with the most, are the program's,
# and quarantine would hide it. Of one workspace there may be more: all others wait while recording stands still.
MAX_REFUSED_IN_A_ROW, MAX_REFUSED_OF_ONE = 100, 10_000

_log = structlog.get_logger(__name__)


class OutboxGap(Exception):
    """The outbox lacks the events that the record needs next. Data was lost, and an operator must decide."""


class AnchorLost(OutboxGap):
    """The anchor is missing or another entry: the record belongs to another Redis."""


class TooManyRefused(Exception):
    """Postgres refuses one event after another. The cursor stays."""


class BatchTooSlow(TimeoutError):
    """A statement of a batch's transaction took longer than the pool waits. The next batch has half as many events."""


class CursorMoved(Exception):
    """The cursor is not where this worker left it: a commit whose reply was lost succeeded. Start again."""


_TRANSIENT = (
    *(*redis.ERRORS, CursorMoved),
    *(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError),
)


class Flusher:
    """Moves one partition's outbox into Postgres, under a fence.

    1. Read from the anchor, the last recorded entry, which must still be there byte for byte.
    2. Check that the ids have no gap. An epoch's first, `<epoch>-0`, may follow any of an older epoch.
    3. Record up to 5,000 events in one transaction with the cursor. Events whose order one transaction can't check are
       recorded in two parts. If Postgres refuses, halve the batch down to the refused event, and quarantine it in the
       transaction that moves the cursor past it.
    4. After a broken connection, a commit in doubt or a batch that took too long, pause, read the cursor, and continue
       from there, with half of such a batch. If the slot has left the node, raise that: the other node's partition must
       be opened first.
    5. Trim entries recorded more than two minutes or 100,000 events ago, but never the anchor nor what too few standbys
       have; while idle, up to the exact entry.
    6. Raise LeaseLost if the fence has changed, OutboxGap if events are missing.
    """

    def __init__(
        self,
        outbox: Outbox,
        pool: asyncpg.Pool,
        partition: int,
        fence: int,
        standbys: int = 0,
        max_unrecorded_s: float = math.inf,
    ) -> None:
        self._outbox = outbox
        self._standbys = Standbys(pool, partition, standbys)
        self._pool = pool
        self._partition = partition
        self._fence = fence
        self._log = _log.bind(partition=partition)
        self._cursor: EventId = NO_EVENT
        self._digest: bytes | None = None
        self.unrecorded = Unrecorded(max_unrecorded_s)
        self._marks: deque[tuple[float, int, EventId]] = deque()
        """When (time.monotonic) how many events were recorded, and the last of them."""
        self._old: EventId = NO_EVENT
        """Entries before this one are old, or too many."""
        self._trimmed = self._trimmed_exactly = NO_EVENT
        self._refused_in_a_row = Counter[bytes]()
        """By workspace."""
        self._at_once = BATCH_EVENTS
        """The most events of a batch: half of those that took too long, an eighth more after each that is recorded."""
        self._closed = False
        self.held = 0
        """Entries of the outbox, if it is kept for standbys."""
        self.is_idle = False
        """Whether everything is recorded, and it waits for an entry."""

    @property
    def cursor(self) -> EventId:
        """The last recorded event."""
        return self._cursor

    def gate_state(self) -> State:
        """The gate's state for the events that Postgres or its standbys lack."""
        return self.unrecorded.state(self.held - KEEP_EVENTS)

    async def run(self) -> None:
        """Record until cancelled. Raises LeaseLost, OutboxGap, TooManyRefused, and a node's redirection."""
        backoff = Backoff(FIRST_BACKOFF_S, LONGEST_BACKOFF_S)
        while True:
            try:
                await self.start()
                if self._closed:  # Postgres was restored to a time during an opening
                    raise LeaseLost(f"partition {self._partition} is not open")
                while not is_cancelled():
                    most, events = self._at_once, await self._step_or_start()
                    if events == 0:
                        await self._wait_for_entry()
                    elif events < most:
                        await asyncio.sleep(min(PAUSE_S + events * PAUSE_EACH_S, LONGEST_PAUSE_S))
                    backoff.reset()
                raise asyncio.CancelledError
            except _TRANSIENT as error:
                if redis.is_redirected(error):  # an idle partition has no other way to notice it soon
                    raise
                pause_s = backoff.next_s()
                reason = reason_of(error) if isinstance(error, hiredis.ReplyError) else refusal_reason(error)
                self._log.warning("recording_paused", reason=reason, seconds=round(pause_s, 2))
                metrics.count_retry(self._partition, _kind_of(error))
            await asyncio.sleep(pause_s)

    async def _wait_for_entry(self) -> None:
        """Wait for an entry, but not longer than CHECK_S."""
        until, self.is_idle = time.monotonic() + CHECK_S, True
        try:
            while not (is_cancelled() or await self._outbox.has_more(bytes(self._cursor), BLOCK_MS)):
                await self._trim_exactly()
                if time.monotonic() >= until:
                    await self.start()  # checks the lease
                    return
        finally:
            self.is_idle = False

    async def drain(self, epoch: int) -> None:
        """Record everything up to `<epoch>-0` once, in smaller batches if one takes too long. Raises OutboxGap if that
        is missing, and errors of both servers."""
        await self.start()
        while self._cursor[0] < epoch:
            most = self._at_once
            try:
                if await self.step() == 0:
                    raise OutboxGap(f"the outbox ends before {epoch}-0")
            except BatchTooSlow:
                if most == 1:
                    raise

    async def start(self) -> None:
        """Continue from the cursor. Raises LeaseLost."""
        row = await read_partition(self._pool, self._partition)
        if row.fence != self._fence:
            raise LeaseLost(f"partition {self._partition}: fence {self._fence} was followed by {row.fence}")
        if row.cursor < self._cursor:  # Postgres is a standby that was promoted, or was restored
            self._log.warning("cursor_went_back", cursor=str(row.cursor), was=str(self._cursor))
            self._marks.clear()
            self._old = min(self._old, row.cursor)
        self._cursor, self._digest, self._closed = row.cursor, row.cursor_digest, row.state != "open"
        self.unrecorded.see_cursor(row.cursor)
        if not self._marks:
            self._marks.append((time.monotonic(), 0, self._cursor))

    async def step(self) -> int:
        """Record at most one batch; return its number of entries."""
        entries = await self._read()
        recorded = len(entries)
        while entries:
            (epoch, seq), (entry_id, fields) = self._cursor, entries[0]
            if _is_recovery_entry(fields):
                raise AnchorLost(f"{entry_id.decode()} follows a recovery that is not recorded")
            if run := _consecutive(entries, epoch, seq):
                await self._record(seq + 1, entries[:run])
            else:
                begun, first = _parse(entry_id)
                if begun <= epoch or first != 0:
                    raise OutboxGap(f"after {self._cursor} comes {entry_id.decode()}")
                await self._enter(begun, entry_id, fields)
            entries = entries[run or 1 :]
        if recorded:
            await self._trim()
        return recorded

    async def _step_or_start(self) -> int:
        """Record a batch. An apparent gap may be another worker's trimming, if this one slept and lost its lease."""
        try:
            return await self.step()
        except OutboxGap:
            at = self._cursor
            await self.start()
            if self._cursor == at:
                raise
            return 0

    def observe_tail(self, tail: str) -> None:
        """Take over the outbox's last id, which nothing else reads while Postgres is away."""
        self.unrecorded.see_tail(parse_event_id(tail) if tail else NO_EVENT)

    async def _read(self) -> Read:
        """The entries after the anchor. Raises AnchorLost."""
        anchor = bytes(self._cursor)
        entries = await self._outbox.entries(anchor, self._at_once + 1)
        if not entries or entries[0][0] != anchor:
            raise AnchorLost(f"{self._cursor} is recorded and not in the outbox")
        if _digest(*entries[0]) != self._digest:
            raise AnchorLost(f"{self._cursor} is not the entry that was recorded")
        if len(entries) > self._at_once:
            last = await self._outbox.last()
            self.unrecorded.see_tail(_parse(last) if last else NO_EVENT)
        else:
            self.unrecorded.see_tail(_parse(entries[-1][0]))
        return entries[1:]

    async def _record(self, first: int, batch: Read) -> None:
        """Record consecutive events from a number on, and quarantine those that Postgres refuses."""
        pending = [(first, batch)]
        while pending:
            first, batch = pending.pop()
            try:
                entries = [(seq, *split_entry(fields)) for seq, (_, fields) in enumerate(batch, first)]
                await self._commit(first + len(batch) - 1, batch[-1], entries)
                self._refused_in_a_row.clear()
            except EVENT_ERRORS as error:
                if len(batch) > 1:
                    place = _where_to_split(first, batch, error)
                    pending += [(first + place, batch[place:]), (first, batch[:place])]
                else:
                    await self._quarantine(first, batch[0], error)

    async def _quarantine(self, seq: int, entry: tuple[bytes, Fields], error: Exception) -> None:
        total, most = self._refused_in_a_row.total(), max(self._refused_in_a_row.values(), default=0)
        if total - most >= MAX_REFUSED_IN_A_ROW or most >= MAX_REFUSED_OF_ONE:
            raise TooManyRefused(f"{total} events in a row, the last for {refusal_reason(error)}") from error
        d, r, _ = split_entry(entry[1])
        await self._commit(seq, entry, [], [RejectedEvent(seq, refusal_reason(error), d, r)])
        _, _, rest = d.partition(b" ")
        self._refused_in_a_row[rest.partition(b" ")[0]] += 1
        self._log.error("event_quarantined", event_id=entry[0].decode(), reason=refusal_reason(error))

    async def _commit(
        self, to: int, last: tuple[bytes, Fields], entries: Sequence[Entry], quarantined: Sequence[RejectedEvent] = ()
    ) -> None:
        epoch, seq = self._cursor
        digest = _digest(*last)
        async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
            with metrics.time_recording(to - seq):
                batch = (self._partition, epoch, seq, to, self._fence, entries, digest, quarantined)
                try:
                    moved = await record(connection, *batch)
                except (TimeoutError, asyncpg.QueryCanceledError) as error:
                    self._at_once = max(1, min(self._at_once, to - seq) // 2)
                    raise BatchTooSlow(f"{to - seq} events") from error
        self._at_once = min(BATCH_EVENTS, self._at_once + self._at_once // 8 + 1)
        self._advance(moved, EventId(epoch, to), digest, to - seq)

    async def _enter(self, epoch: int, entry_id: bytes, fields: Fields) -> None:
        if split_entry(fields)[0] != b"O":
            raise OutboxGap(f"{epoch}-0 doesn't begin an epoch")
        digest = _digest(entry_id, fields)
        moved = await enter_epoch(self._pool, self._partition, self._fence, self._cursor, epoch, digest)
        self._advance(moved, EventId(epoch, 0), digest, 1)

    def _advance(self, moved: bool, cursor: EventId, digest: bytes, events: int) -> None:
        if not moved:
            raise CursorMoved
        self._cursor, self._digest = cursor, digest
        metrics.count_recorded(self._partition, events)
        self._marks.append((time.monotonic(), events, cursor))
        self.unrecorded.see_cursor(cursor)

    async def _trim(self) -> None:
        """Remove entries that are old, or too many; the anchor stays, and what too few standbys have."""
        old, count = time.monotonic() - KEEP_S, sum(mark[1] for mark in self._marks)
        while len(self._marks) > 1 and (self._marks[0][0] < old or count > KEEP_EVENTS):
            _, events, self._old = self._marks.popleft()
            count -= events
        first = min(self._old, await self._standbys.flushed(self._cursor))
        if first > self._trimmed:
            await self._outbox.trim(bytes(first), exactly=False)
            self._trimmed = first

    async def _trim_exactly(self) -> None:
        """While idle, remove all old entries: they may name deleted users."""
        await self._trim()
        flushed = await self._standbys.flushed(self._cursor)
        if self._trimmed_exactly != self._cursor == flushed and self._marks[-1][0] < time.monotonic() - KEEP_S:
            await self._outbox.trim(bytes(self._cursor), exactly=True)
            self._trimmed = self._trimmed_exactly = self._cursor


def _where_to_split(first: int, batch: Read, error: Exception) -> int:
    """How many events of a refused batch to record before the others: those before the event that needs it, else half,
    down to the refused one."""
    if isinstance(error, NeedsSmallerBatch) and error.seq is not None and error.seq > first:
        return error.seq - first
    return len(batch) // 2


def _kind_of(error: Exception) -> metrics.RetryError:
    if isinstance(error, asyncpg.DiskFullError):
        return "disk_full"
    if isinstance(error, TimeoutError | asyncpg.QueryCanceledError):
        return "timeout"
    return "connection" if isinstance(error, redis.ERRORS) or postgres.is_away(error) else "other"


def _digest(entry_id: bytes, fields: Fields) -> bytes:
    return entry_digest(entry_id, *fields[1::2])


def _is_recovery_entry(fields: Fields) -> bool:
    """Whether the entry, its epoch's second, ends a recovery. The cursor is moved to such an entry, never across it."""
    return split_entry(fields)[0].startswith(b"M ")


def _consecutive(entries: Read, epoch: int, seq: int) -> int:
    """The number of entries that follow an event without a gap. Ids only rise, so an entry whose number equals its
    distance proves that none before it is missing."""
    return bisect_left(
        range(len(entries)), True, key=lambda index: entries[index][0] != bytes(EventId(epoch, seq + 1 + index))
    )


def _parse(entry_id: bytes) -> EventId:
    return parse_event_id(entry_id.decode())
