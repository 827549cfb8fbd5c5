"""Write the record into a closed Redis: all of it, or what Redis lacks. partition_opening.py calls this, in an order
that each method's docstring demands. Facts are applied in the order of their events. The mark's text is in Redis, and
another worker continues from it."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from itertools import islice
from typing import Any, NamedTuple, cast

import asyncpg
import structlog

from service.common.byte_runs import IN_FLIGHT_BYTES, RUN_BYTES
from service.engine.domain.configuration import CodeRow
from service.engine.domain.field_types import encode_field
from service.engine.formats import key_names
from service.engine.formats.event_id import START, EventId
from service.engine.formats.events import Fact, RolledBack, encode_event
from service.engine.formats.idempotency_entry import with_event
from service.engine.formats.quarantined_event import read_names
from service.engine.formats.recovery_progress import WHOLE
from service.engine.hot.decider import Reply
from service.engine.hot.projection import RedisProjector
from service.engine.hot.redis_server import ScriptFailed, Server
from service.engine.hot.scripts import Scripts
from service.engine.record.actor import mask
from service.engine.record.changes import changes_since
from service.engine.record.facts.fact_reader import KeptKey, fact_pages, key_pages
from service.engine.record.facts.quarantined_events import page_quarantine
from service.engine.record.partitions.openings import advance_recovery
from service.engine.record.pool import Connection
from service.engine.worker.opening.unappliable_events import TooManyFailed, UnappliableEvents
from service.engine.worker.projector import PROJECTING, log_skipped_code, project, project_codes
from service.engine.worker.set_aside import SetAside

EVENTS_A_RUN = 250
"""Some 7 ms in Redis, and one fsync. Each event or key has three arguments."""
KEYS_A_RUN = 500
BUCKETS_A_RUN = 500
FEW_BUCKETS = 500
CODES_A_RUN = 200
RUNS_AT_ONCE = 32
MAX_SKIPPED = 1000
"""Answers that can't be restored; more are no single answer's fault."""
VERSIONS_AT_ONCE = 8
PROGRESS_S = 0.5

log = structlog.get_logger()


class Buckets:
    """A set of a workspace's buckets: a Python set while small, then a bitmap of 16 KiB."""

    def __init__(self) -> None:
        self._few: set[int] = set()
        self._map: bytearray | None = None

    def add(self, bucket: int) -> None:
        if self._map is not None:
            self._map[bucket >> 3] |= 1 << (bucket & 7)
            return
        self._few.add(bucket)
        if len(self._few) > FEW_BUCKETS:
            few, self._few, self._map = self._few, set(), bytearray(key_names.BUCKETS // 8)
            for one in few:
                self.add(one)

    def __iter__(self) -> Iterator[int]:
        if self._map is None:
            yield from sorted(self._few)
            return
        for position, byte in enumerate(self._map):
            if byte:
                yield from (position << 3 | bit for bit in range(8) if byte >> bit & 1)

    def runs(self, size: int) -> Iterator[list[int]]:
        every = iter(self)
        while run := list(islice(every, size)):
            yield run


class _Run(NamedTuple):
    """A script call in flight."""

    facts: Sequence[Fact]
    args: Sequence[Any]
    size: int
    running: asyncio.Task[Reply]


class Restorer:
    """Sends many script calls at once, in order. Each checks that the gate is still closed for this epoch."""

    def __init__(
        self, server: Server, pool: asyncpg.Pool, scripts: Scripts, unappliable: UnappliableEvents | None = None
    ) -> None:
        """Without `unappliable`, events that can't be applied again are skipped and only counted."""
        self._server, self._pool, self.scripts = server, pool, scripts
        self._partition = server.partition
        self._names = (server.gate, key_names.mend(server.partition))
        self._layout = key_names.layout(server.partition)
        self._unappliable = unappliable
        self._events: list[Any] = []
        self._facts: list[Fact] = []
        """The facts of `_events`."""
        self._keys: list[Any] = []
        self._key_bytes = 0
        self._running: deque[_Run] = deque()
        self._in_flight_bytes = 0
        self._done = 0
        self._skipped = 0
        """Facts that could not be applied again."""
        self._skipped_answers = 0
        self._next_progress_at = 0.0
        self._filled: dict[int, Buckets] = {}
        """By workspace, the directory's buckets into which a whole rebuild has written codes."""
        self.projector = RedisProjector(self._run, log_skipped_code)
        self._set_aside = SetAside(pool, self._partition, PROJECTING)

    async def record_progress(self, text: str) -> None:
        """Write the recovery's progress; '' when it is done: then all keys have this layout."""
        await self._run(self._partition, "record_progress", (*self._names, self._layout), (text, key_names.LAYOUT))

    async def append_recovery_entry(self) -> None:
        """Append the entry that ends the recovery to the outbox. Any later loss of data includes this entry."""
        names = (self._server.gate, self._server.outbox)
        await self._run(self._partition, "complete_recovery", names, (self.scripts.nonce,))

    async def clear(self) -> None:
        """Remove all keys of the partition except gate, outbox and mark."""
        async with self._step("clear"):
            async for page in self._server.owned_names():
                await self._run(self._partition, "remove_keys", self._names[:1], page)

    async def configure(self, since: int, *, whole: bool = False) -> None:
        """Project the configuration after a version. Codes are sent several versions at a time; their version is set
        after all of them. With `whole`, call fill_pools afterwards."""
        in_flight: deque[asyncio.Task[None]] = deque()
        changes = changes_since(self._pool, self._partition, since)
        async with self._step("configure"), aclosing(changes):
            try:
                async for change in changes:
                    if change.rows and isinstance(change.rows[0], CodeRow):
                        codes = cast("Sequence[CodeRow]", change.rows)
                        if whole:
                            self._note_buckets(codes)
                        work = project_codes(self.projector, self._partition, change, whole)
                        in_flight.append(asyncio.create_task(work))
                        await self._count(len(codes))
                    while len(in_flight) >= VERSIONS_AT_ONCE or (in_flight and not change.rows):
                        await in_flight.popleft()
                    if not change.rows or not isinstance(change.rows[0], CodeRow):
                        await project(self.projector, self._partition, change, self._set_aside)
            finally:
                await asyncio.gather(*in_flight, return_exceptions=True)

    async def fill_pools(self) -> None:
        """Fill the pools of free codes, after everything else is restored."""
        async with self._step("pools"):
            for workspace, buckets in self._filled.items():
                names = (self._server.gate, key_names.settings(key_names.prefix(self._partition, workspace)))
                for run in buckets.runs(BUCKETS_A_RUN):
                    left: Sequence[Any] = run
                    while left:
                        left = (await self._run(self._partition, "fill_pool", names, left))[1:]
            self._filled.clear()

    async def block_codes(self, *, whole: bool) -> None:
        """Block the codes of quarantined events: they may have been used. With `whole`, call fill_pools afterwards."""
        async with self._step("block"):
            async for page in page_quarantine(self._pool, self._partition):
                codes = [
                    (name.workspace, key_names.bucket(name.code), name.code) for _, d in page for name in read_names(d)
                ]
                for start in range(0, len(codes), CODES_A_RUN):
                    args = [field for code in codes[start : start + CODES_A_RUN] for field in code]
                    await self._send("block_codes", self._names[:1], ["1" if whole else "", *args])

    def _note_buckets(self, rows: Sequence[CodeRow]) -> None:
        for row in rows:
            self._filled.setdefault(row.workspace, Buckets()).add(key_names.bucket(row.code))

    async def restore_keys(self, after: EventId) -> None:
        """Restore the idempotency keys of events after one. Call it before `apply_events` moves the mark: a worker that
        continues from the mark assumes that the keys are there."""
        async with (
            self._step("keys"),
            self._pool.acquire() as connection,
            aclosing(key_pages(connection, self._partition, after=after)) as pages,
        ):
            async for page in pages:
                for key in page:
                    if key.ttl_ms > 0:
                        await self._add_key(key)
            await self._send_keys()

    async def apply_events(self, after: EventId, *, whole: bool) -> int:
        """Apply recorded events after one again, in order; return their number. Unless `whole`, move the mark along."""
        async with self._step("redo"), self._pool.acquire() as connection:
            events = await self._apply_facts(connection, after, whole)
        if self._skipped:
            log.error("events_not_redone", partition=self._partition, events=self._skipped)
        return events

    async def _apply_facts(self, connection: Connection, after: EventId, whole: bool) -> int:
        events, last = 0, START
        options: Any = {"after": after, "archived": False}
        async with aclosing(fact_pages(connection, self._partition, **options)) as pages:
            async for page in pages:
                for fact in page:
                    # The facts of an event go out in one call, as the mark is an event's.
                    if len(self._events) >= EVENTS_A_RUN * 3 and last != fact.id:
                        await self._send_events(WHOLE if whole else str(last))
                    self._add(fact)
                    last = fact.id
                events += len(page)
        if self._events:
            await self._send_events(WHOLE if whole else str(last))
        return events

    async def _add_key(self, key: KeptKey) -> None:
        name = key_names.answer(key_names.prefix(self._partition, key.workspace), key.key)
        if len(self._keys) >= KEYS_A_RUN * 3 or (self._keys and self._key_bytes + len(key.entry) > RUN_BYTES):
            await self._send_keys()
        self._keys += (name, with_event(key.entry, EventId(key.epoch, key.seq)), key.ttl_ms)
        self._key_bytes += len(key.entry)

    def _add(self, fact: Fact) -> None:
        extra = ""
        if isinstance(fact, RolledBack):  # without a recorded redemption these are None, and redo refuses it
            extra = f"{fact.redeemed} {fact.discount_e4} {key_names.bucket(encode_field(fact.user))} {fact.counted_ms}"
        self._events += (encode_event(fact), str(fact.id), extra)
        self._facts.append(fact)

    async def _send_events(self, progress: str) -> None:
        args, facts, self._events, self._facts = self._events, self._facts, [], []
        await self._send("apply_events", self._names, [progress, *args], facts=facts)
        await self._count(len(facts))

    async def _send_keys(self) -> None:
        args, self._keys = self._keys, []
        size, self._key_bytes = self._key_bytes, 0
        await self._send("restore_keys", self._names[:1], args, size=size)

    async def _restore_halves(self, args: Sequence[Any]) -> None:
        """Restore a failed run by halves, down to the answer that can't be restored, and skip that one."""
        if len(args) == 3:
            self._skipped_answers += 1
            if self._skipped_answers > MAX_SKIPPED:
                raise TooManyFailed(f"{MAX_SKIPPED} answers can't be restored")
            log.error("answer_left_out", partition=self._partition, key=mask(args[0].partition(":i:")[2]))
            return
        middle = len(args) // 6 * 3
        for half in (args[:middle], args[middle:]):
            try:
                await self._run(self._partition, "restore_keys", self._names[:1], half)
            except ScriptFailed as failed:
                if not failed.is_own:
                    raise
                await self._restore_halves(half)

    async def _wait_for_all(self) -> None:
        """Wait for all calls. Errors after the first are its consequences."""
        try:
            while self._running:
                await self._wait_for_first()
        finally:
            await asyncio.gather(*(run.running for run in self._running), return_exceptions=True)
            self._running.clear()
            self._in_flight_bytes = 0

    async def _wait_for_first(self) -> None:
        first = self._running.popleft()
        self._in_flight_bytes -= first.size
        try:
            reply = await first.running
        except ScriptFailed as failed:
            if not (failed.is_own and failed.script == "restore_keys"):
                raise
            await self._restore_halves(first.args)
            return
        if first.facts:
            self._skipped += len(reply[1:]) // 2
            if self._unappliable:
                await self._unappliable.quarantine_skipped(first.facts, reply[1:])

    async def _send(
        self, script: str, names: Sequence[str], args: Sequence[Any], *, size: int = 0, facts: Sequence[Fact] = ()
    ) -> None:
        """`size`: the bytes of its arguments, if they vary; `facts`: those that it applies."""
        while self._running and (len(self._running) >= RUNS_AT_ONCE or self._in_flight_bytes + size > IN_FLIGHT_BYTES):
            await self._wait_for_first()
        run = self._server.run(self.scripts, script, names, args)
        self._running.append(_Run(facts, args, size, asyncio.ensure_future(run)))
        self._in_flight_bytes += size

    @asynccontextmanager
    async def _step(self, step: str) -> AsyncIterator[None]:
        """Time a step, and wait for all of its calls, also after an error."""
        began = time.monotonic()
        try:
            yield
        finally:
            await self._wait_for_all()
        log.info("restore_step_done", partition=self._partition, step=step, took_s=round(time.monotonic() - began, 3))

    async def _count(self, done: int) -> None:
        """Store the progress in Postgres, at most twice a second."""
        self._done += done
        if (now := time.monotonic()) >= self._next_progress_at:
            self._next_progress_at = now + PROGRESS_S
            await advance_recovery(self._pool, self._partition, self.scripts.epoch, self._done)

    async def _run(self, partition: int, script: str, names: Sequence[str], args: Sequence[Any]) -> Reply:
        return await self._server.run(self.scripts, script, names, args)
