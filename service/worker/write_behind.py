"""From the outbox into Postgres."""

import asyncio
import random
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from typing import Literal

import asyncpg
import structlog

from service.formats.event_id import NO_EVENT, EventId, parse_event_id
from service.formats.events import Entry, MalformedEvent, entry_digest
from service.hot import outbox as redis
from service.hot.outbox import Fields, Outbox, Read
from service.record.facts.event_writer import KeyReused, NotAssigned, Quarantined, Undecided, record
from service.record.partitions.partition_rows import LeaseLost, enter_epoch, read_partition

BATCH_EVENTS = 5000
BLOCK_MS = 1000
# Between batches that are not full: some hundred commits a second would cost more than the events in them. The more
# there was, the longer the next may gather: a transaction costs Postgres what sixty events do, and us as much.
PAUSE_S, PAUSE_EACH_S, LONGEST_PAUSE_S = 0.01, 0.0002, 0.1
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.05, 2.0
ACQUIRE_TIMEOUT_S = 10.0

KEEP_S = 120
KEEP_EVENTS = 100_000
# One bad event is an event's fault. So many in a row are the program's, and quarantine would only hide it.
MAX_REFUSED_IN_A_ROW = 100

BEHIND_EVENTS = 1_000_000
FULL_EVENTS = 800_000
REOPEN_AT = 0.9
_RATE_WINDOW_S = 10

GateState = Literal["open", "full", "behind"]
# What Postgres or we refuse for an event's own sake; anything else is tried again.
_REFUSED = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, ValueError)
_log = structlog.get_logger(__name__)


class OutboxGap(Exception):
    """The outbox lacks events that the record needs next: something was lost, and an operator must decide."""


class AnchorLost(OutboxGap):
    """The entry that was recorded last is not in the outbox as it was: the record follows another Redis."""


class TooManyRefused(Exception):
    """Postgres refuses one event after the other. Nothing more was moved past."""


class CursorMoved(Exception):
    """The cursor is not where it was left: a commit whose answer was lost went through. Start again."""


_PASSING = (
    *(*redis.ERRORS, CursorMoved),
    *(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError),
)


class Flusher:
    """Moves one partition's outbox into Postgres, under a fence.

    1. Reads from the anchor, the last entry that is recorded, which must still be there, byte for byte.
    2. Checks that the ids follow each other without a gap (what comes before one is recorded); an epoch's first,
       `<epoch>-0`, follows any of an older one.
    3. Records up to 5,000 events in one transaction with the cursor. Where Postgres refuses, halves them down to the
       one event that it can't take, and quarantines that in the transaction that moves the cursor past it.
    4. When a connection broke or a commit is in doubt, waits, reads the cursor and goes on from there.
    5. Trims what was recorded two minutes or 100,000 events ago, never the anchor; while nothing happens, to the entry.
    6. Ends with LeaseLost when the fence is another's, with OutboxGap where events are missing.
    """

    def __init__(self, outbox: Outbox, pool: asyncpg.Pool, partition: int, fence: int) -> None:
        self._outbox = outbox
        self._pool = pool
        self._partition = partition
        self._fence = fence
        self._log = _log.bind(partition=partition)
        self._cursor: EventId = NO_EVENT
        self._digest: bytes | None = None
        self._tail: EventId = NO_EVENT
        self._tails: deque[tuple[float, EventId]] = deque(maxlen=10_000)
        self._passed = time.monotonic()
        self._marks: deque[tuple[float, int, EventId]] = deque()
        self._trimmed: EventId = NO_EVENT
        self._refused_in_a_row = 0
        self._gate: GateState = "open"
        self._closed = False
        self.recorded = 0
        self.quarantined = 0

    @property
    def cursor(self) -> EventId:
        """Epoch and number of the last event that is recorded."""
        return self._cursor

    @property
    def pending(self) -> int:
        """Events in the outbox, when last looked at, that are not recorded."""
        (epoch, seq), (cursor_epoch, cursor_seq) = self._tail, self._cursor
        return max(0, seq - cursor_seq) if epoch == cursor_epoch else seq + 1 if epoch > cursor_epoch else 0

    @property
    def lag_seconds(self) -> float:
        """No event older than this is unrecorded; 0 where none is unrecorded."""
        return time.monotonic() - self._passed if self.pending else 0.0

    @property
    def events_per_second(self) -> float:
        """Recorded, over the last ten seconds."""
        now, total = time.monotonic(), 0
        for at, events, _ in reversed(self._marks):
            if at < now - _RATE_WINDOW_S:
                break
            total += events
        return total / _RATE_WINDOW_S

    def gate_state(self) -> GateState:
        """What the gate should say, given what is pending; a bound must be undercut by a tenth to open again."""
        behind = BEHIND_EVENTS * (REOPEN_AT if self._gate == "behind" else 1)
        full = FULL_EVENTS * (REOPEN_AT if self._gate != "open" else 1)
        self._gate = "behind" if self.pending >= behind else "full" if self.pending >= full else "open"
        return self._gate

    async def run(self) -> None:
        """Record until cancelled. Raises LeaseLost, OutboxGap, TooManyRefused."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            try:
                await self.start()
                if self._closed:  # Postgres was restored to a time at which it was being opened
                    raise LeaseLost(f"partition {self._partition} is not open")
                while not _cancelled():
                    events = await self._step_or_start()
                    backoff_s = FIRST_BACKOFF_S
                    if events == 0:
                        if not await self._outbox.has_more(bytes(self._cursor), BLOCK_MS):
                            await self.start()  # hears of a lost lease
                            await self._trim_exactly()
                    elif events < BATCH_EVENTS:
                        await asyncio.sleep(min(PAUSE_S + events * PAUSE_EACH_S, LONGEST_PAUSE_S))
                raise asyncio.CancelledError
            except _PASSING as error:
                self._log.warning("recording pauses", reason=_reason(error), seconds=round(backoff_s, 2))
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1))  # noqa: S311, no secret
            backoff_s = min(backoff_s * 2, LONGEST_BACKOFF_S)

    async def drain(self, epoch: int) -> None:
        """Record all up to `<epoch>-0`, once. Raises OutboxGap where that is missing; what breaks is the caller's."""
        await self.start()
        while self._cursor[0] < epoch:
            if await self.step() == 0:
                raise OutboxGap(f"the outbox ends before {epoch}-0")

    async def start(self) -> None:
        """Go on from where the record is. Raises LeaseLost."""
        row = await read_partition(self._pool, self._partition)
        if row.fence != self._fence:
            raise LeaseLost(f"partition {self._partition}: fence {self._fence} was followed by {row.fence}")
        self._cursor, self._digest, self._closed = row.cursor, row.cursor_digest, row.state != "open"
        if not self._marks:
            self._marks.append((time.monotonic(), 0, self._cursor))

    async def step(self) -> int:
        """Record what is there, at most a batch; how many entries that was."""
        entries = await self._read()
        recorded = len(entries)
        while entries:
            (epoch, seq), (entry_id, fields) = self._cursor, entries[0]
            if _is_mended(fields):
                raise AnchorLost(f"{entry_id.decode()} follows what was mended, and the record doesn't have that")
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
        """A step. What looks like a gap may be another's trimming, while this worker slept and lost its lease."""
        try:
            return await self.step()
        except OutboxGap:
            at = self._cursor
            await self.start()
            if self._cursor == at:
                raise
            return 0

    def see(self, tail: str) -> None:
        """Be told how far the outbox goes: while Postgres is away or hangs, nothing is read here."""
        self._saw(parse_event_id(tail) if tail else NO_EVENT)

    async def _read(self) -> Read:
        """The entries after the anchor. Raises AnchorLost."""
        anchor = bytes(self._cursor)
        found = await self._outbox.entries(anchor, BATCH_EVENTS + 1)
        if not found or found[0][0] != anchor:
            raise AnchorLost(f"{self._cursor} is recorded and not in the outbox")
        if _digest(*found[0]) != self._digest:
            raise AnchorLost(f"{self._cursor} is not the entry that was recorded")
        if len(found) > BATCH_EVENTS:
            last = await self._outbox.last()
            self._saw(_parse(last) if last else NO_EVENT)
        else:
            self._saw(_parse(found[-1][0]))
        return found[1:]

    async def _record(self, first: int, batch: Read) -> None:
        """Record consecutive events of the cursor's epoch from a number on, or those of them that can be."""
        try:
            entries = [(seq, *_told(fields)) for seq, (_, fields) in enumerate(batch, first)]
            await self._commit(first + len(batch) - 1, batch[-1], entries)
            self._refused_in_a_row = 0
        except _REFUSED as error:
            await self._refused(first, batch, error)

    async def _refused(self, first: int, batch: Read, error: Exception) -> None:
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._record(first, batch[:middle])
            await self._record(first + middle, batch[middle:])
            return
        if self._refused_in_a_row >= MAX_REFUSED_IN_A_ROW:
            raise TooManyRefused(f"{self._refused_in_a_row} events in a row, the last for {_reason(error)}") from error
        (entry,) = batch
        d, r, _ = _told(entry[1])
        await self._commit(first, entry, [], [Quarantined(first, _reason(error), d, r)])
        self._refused_in_a_row += 1
        self.quarantined += 1
        self._log.error("event put into quarantine", event_id=entry[0].decode(), reason=_reason(error))

    async def _commit(
        self, to: int, last: tuple[bytes, Fields], entries: Sequence[Entry], quarantined: Sequence[Quarantined] = ()
    ) -> None:
        epoch, seq = self._cursor
        digest = _digest(*last)
        async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
            moved = await record(
                *(connection, self._partition, epoch, seq, to, self._fence, entries, digest, quarantined)
            )
        self._moved(moved, EventId(epoch, to), digest, to - seq)

    async def _enter(self, epoch: int, entry_id: bytes, fields: Fields) -> None:
        if _told(fields)[0] != b"O":
            raise OutboxGap(f"{epoch}-0 doesn't begin an epoch")
        digest = _digest(entry_id, fields)
        moved = await enter_epoch(self._pool, self._partition, self._fence, self._cursor, epoch, digest)
        self._moved(moved, EventId(epoch, 0), digest, 1)

    def _moved(self, moved: bool, cursor: EventId, digest: bytes, events: int) -> None:
        if not moved:
            raise CursorMoved
        self._cursor, self._digest = cursor, digest
        self.recorded += events
        self._marks.append((time.monotonic(), events, cursor))
        self._see_passed()

    async def _trim(self) -> None:
        """Drop entries that are recorded long enough, or are more than enough; the anchor stays."""
        old, kept, before = time.monotonic() - KEEP_S, sum(mark[1] for mark in self._marks), None
        while len(self._marks) > 1 and (self._marks[0][0] < old or kept > KEEP_EVENTS):
            _, events, before = self._marks.popleft()
            kept -= events
        if before is not None:
            await self._outbox.trim(bytes(before), exactly=False)

    async def _trim_exactly(self) -> None:
        """While nothing happens: drop all that is recorded long enough, for it may name users who were deleted."""
        if self._trimmed != self._cursor and self._marks[-1][0] < time.monotonic() - KEEP_S:
            await self._outbox.trim(bytes(self._cursor), exactly=True)
            self._trimmed = self._cursor

    def _saw(self, tail: EventId) -> None:
        self._tail = tail
        self._tails.append((time.monotonic(), tail))
        self._see_passed()

    def _see_passed(self) -> None:
        while self._tails and self._tails[0][1] <= self._cursor:
            self._passed = self._tails.popleft()[0]


def _told(fields: Fields) -> tuple[bytes, bytes, bytes | None]:
    """What an entry's fields `d`, `r` and `i` hold; nothing where it has others."""
    if len(fields) == 6:
        return fields[1], fields[3], fields[5]
    return (fields[1], fields[3], None) if len(fields) == 4 else (b"", b"", None)


def _digest(entry_id: bytes, fields: Fields) -> bytes:
    return entry_digest(entry_id, *fields[1::2])


def _is_mended(fields: Fields) -> bool:
    """Whether the entry, the second of its epoch, says that Redis was mended before it. The record enters by it; it is
    never read on its way."""
    return _told(fields)[0].startswith(b"M ")


def _consecutive(entries: Read, epoch: int, seq: int) -> int:
    """How many of the entries follow an event without a gap. A stream's ids only rise: where an entry is as far from
    the event as its place says, none before it is missing."""
    return bisect_left(
        range(len(entries)), True, key=lambda place: entries[place][0] != bytes(EventId(epoch, seq + 1 + place))
    )


def _cancelled() -> bool:
    """Whether a cancellation was swallowed, as `asyncio.wait_for` in a library may do until Python 3.12."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _parse(entry_id: bytes) -> EventId:
    return parse_event_id(entry_id.decode())


def _reason(error: Exception) -> str:
    """What went wrong, without what Postgres quotes of the row: that may be a code."""
    if isinstance(error, asyncpg.PostgresError):
        return " ".join(filter(None, [type(error).__name__, getattr(error, "constraint_name", None)]))
    ours = isinstance(error, MalformedEvent | Undecided | KeyReused | NotAssigned)
    return f"{type(error).__name__} {error}" if ours else type(error).__name__
