"""Writing what is recorded into a closed Redis: all of it, or what it lacks."""

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from itertools import islice
from typing import Any, NamedTuple, cast

import asyncpg
import structlog

from service.access.actor import mask
from service.common.byte_runs import IN_FLIGHT_BYTES, RUN_BYTES
from service.domain.configuration import CodeRow
from service.domain.field_types import encode_field
from service.formats import key_names
from service.formats.event_id import START, EventId
from service.formats.events import Fact, RolledBack, decided
from service.formats.idempotency_entry import with_event
from service.formats.mending_mark import WHOLE
from service.formats.quarantined_event import read_names
from service.hot.decider import Reply
from service.hot.projection import RedisProjector
from service.hot.redis_server import ScriptFailed, Server
from service.hot.scripts import Scripts
from service.record.config.changes import changes_since
from service.record.facts.fact_reader import KeptKey, fact_pages, key_pages
from service.record.facts.quarantine import page_live
from service.record.partitions.openings import advance_recovery
from service.record.pool import Connection
from service.worker.projector import leave_out_code, project, project_codes
from service.worker.unappliable_events import SettingAside, TooManyFailed

EVENTS_A_RUN = 250
"""Some 7 ms of Redis's time, and one fsync."""
KEYS_A_RUN = 500
BUCKETS_A_RUN = 500
FEW_BUCKETS = 500
CODES_A_RUN = 200
RUNS_AT_ONCE = 32
MAX_LEFT_OUT = 1000
"""Answers that can't be restored; more are no answer's fault."""
VERSIONS_AT_ONCE = 8
TELL_S = 0.5
END = EventId(2**62, 0)
"""After every event."""

log = structlog.get_logger()


class Buckets:
    """Some of a workspace's buckets: few in a set, many in a bitmap of 16 KiB."""

    def __init__(self) -> None:
        self._few: set[int] = set()
        self._map: bytearray | None = None

    def add(self, bucket: int) -> None:
        """One more."""
        if self._map is not None:
            self._map[bucket >> 3] |= 1 << (bucket & 7)
            return
        self._few.add(bucket)
        if len(self._few) > FEW_BUCKETS:
            few, self._few, self._map = self._few, set(), bytearray(key_names.BUCKETS // 8)
            for one in few:
                self.add(one)

    def __iter__(self) -> Iterator[int]:
        """Each once, in order."""
        if self._map is None:
            yield from sorted(self._few)
            return
        for place, byte in enumerate(self._map):
            if byte:
                yield from (place << 3 | bit for bit in range(8) if byte >> bit & 1)

    def runs(self, size: int) -> Iterator[list[int]]:
        """At most `size` at a time."""
        every = iter(self)
        while some := list(islice(every, size)):
            yield some


class _Run(NamedTuple):
    """A script's run on its way."""

    facts: Sequence[Fact]
    args: Sequence[Any]
    size: int
    running: asyncio.Task[Reply]


class Mending:
    """Many runs on their way at once, in order; each checks that the gate still says that this epoch is closed."""

    def __init__(
        self, server: Server, pool: asyncpg.Pool, scripts: Scripts, setting_aside: SettingAside | None = None
    ) -> None:
        """Without `setting_aside` what can't be applied again is left out, and only counted."""
        self._server, self._pool, self.scripts = server, pool, scripts
        self._partition = server.partition
        self._names = (server.gate, key_names.mend(server.partition))
        self._layout = key_names.layout(server.partition)
        self._setting_aside = setting_aside
        self._events: list[Any] = []
        self._facts: list[Fact] = []
        """Those that `_events` are of."""
        self._keys: list[Any] = []
        self._key_bytes = 0
        self._running: deque[_Run] = deque()
        self._in_flight_bytes = 0
        self._done = 0
        self._left_out = 0
        """Facts that could not be applied again."""
        self._answers_left_out = 0
        self._tell_at = 0.0
        self._filled: dict[int, Buckets] = {}
        """By workspace, the buckets of the directory that configure has written into where all is rebuilt."""
        self.projector = RedisProjector(self._run, leave_out_code)

    async def mark(self, text: str) -> None:
        """Say how far the mending is; '' for done: then all keys are of this layout."""
        await self._run(self._partition, "mark", (*self._names, self._layout), (text, key_names.LAYOUT))

    async def mended(self) -> None:
        """Say in the outbox that all of it is done: what is lost later is lost together with this entry."""
        names = (self._server.gate, self._server.outbox)
        await self._run(self._partition, "mended", names, (self.scripts.nonce,))

    async def clear(self) -> None:
        """Remove all of the partition's keys but gate, outbox and mark."""
        with self._timed("clear"):
            async for page in self._server.owned_names():
                await self._run(self._partition, "clear", self._names[:1], page)

    async def configure(self, since: int, *, whole: bool = False) -> None:
        """Project what the configuration has after a version. Codes go out some versions at a time; that they are there
        is said when all of them are. With `whole`, fill_pools must follow."""
        with self._timed("configure"):
            await self._configure(since, whole)

    async def fill_pools(self) -> None:
        """Say which codes are free, once everything else is as it should be."""
        with self._timed("pools"):
            for workspace, filled in self._filled.items():
                names = (self._server.gate, key_names.settings(key_names.prefix(self._partition, workspace)))
                for some in filled.runs(BUCKETS_A_RUN):
                    left: Sequence[Any] = some
                    while left:
                        left = (await self._run(self._partition, "fill_pool", names, left))[1:]
            self._filled.clear()

    async def block_codes(self, *, whole: bool) -> None:
        """Make the codes unusable of which an event is in quarantine: they may have been used. With `whole`, fill_pools
        must follow."""
        with self._timed("block"):
            async for page in page_live(self._pool, self._partition):
                words = [
                    (one.workspace, key_names.bucket(one.code), one.code) for _, d in page for one in read_names(d)
                ]
                for start in range(0, len(words), CODES_A_RUN):
                    some = [encode_field for code in words[start : start + CODES_A_RUN] for encode_field in code]
                    await self._send("block_codes", self._names[:1], ["1" if whole else "", *some])
            await self._all_sent()

    async def _configure(self, since: int, whole: bool) -> None:
        going: deque[asyncio.Task[None]] = deque()
        try:
            async for change in changes_since(self._pool, self._partition, since):
                if change.rows and isinstance(change.rows[0], CodeRow):
                    if whole:
                        self._note_buckets(cast("Sequence[CodeRow]", change.rows))
                    going.append(asyncio.create_task(project_codes(self.projector, self._partition, change, whole)))
                    await self._count(len(change.rows))
                while len(going) >= VERSIONS_AT_ONCE or (going and not change.rows):
                    await going.popleft()
                if not change.rows or not isinstance(change.rows[0], CodeRow):
                    await project(self.projector, self._partition, change)
        finally:
            await asyncio.gather(*going, return_exceptions=True)

    def _note_buckets(self, rows: Sequence[CodeRow]) -> None:
        for row in rows:
            self._filled.setdefault(row.workspace, Buckets()).add(key_names.bucket(row.code))

    async def restore_keys(self, after: EventId) -> None:
        """Restore the idempotency keys of events after one. Before these are applied again, where the mark moves with
        that: whoever goes on from the mark takes the keys to be there."""
        try:
            with self._timed("keys"):
                async with self._pool.acquire() as connection:
                    await self._kept_keys(connection, after)
                await self._all_sent()
        finally:
            await self._all_sent()

    async def redo(self, after: EventId, keep_mark: bool, until: EventId = END) -> int:
        """Apply the events after one again, in order, up to another; how many facts. With `keep_mark` the mark stays
        what it is, else it follows."""
        try:
            with self._timed("redo"):
                async with self._pool.acquire() as connection:
                    events = await self._redo_facts(connection, after, keep_mark, until)
                await self._all_sent()
            if self._left_out:
                log.error("events_not_redone", partition=self._partition, events=self._left_out)
            return events
        finally:
            await self._all_sent()

    async def _redo_facts(self, connection: Connection, after: EventId, keep_mark: bool, until: EventId) -> int:
        events, last = 0, START
        async with aclosing(fact_pages(connection, self._partition, after=after)) as pages:
            async for page in pages:
                if page[-1].id > until:
                    page = [fact for fact in page if fact.id <= until]  # noqa: PLW2901
                for fact in page:
                    # An event's facts go out in one run: the mark is an event's.
                    if len(self._events) >= EVENTS_A_RUN * 3 and last != fact.id:
                        await self._send_events(WHOLE if keep_mark else str(last))
                    self._add(fact)
                    last = fact.id
                events += len(page)
        if self._events:
            await self._send_events(WHOLE if keep_mark else str(last))
        return events

    async def _kept_keys(self, connection: Connection, after: EventId) -> None:
        async with aclosing(key_pages(connection, self._partition, after=after)) as pages:
            async for page in pages:
                for key in page:
                    if key.ttl_ms > 0:
                        await self._add_key(key)
        await self._send_keys()

    async def _add_key(self, key: KeptKey) -> None:
        name = key_names.answer(key_names.prefix(self._partition, key.workspace), key.key)
        if len(self._keys) >= KEYS_A_RUN * 3 or (self._keys and self._key_bytes + len(key.entry) > RUN_BYTES):
            await self._send_keys()
        self._keys += (name, with_event(key.entry, EventId(key.epoch, key.seq)), key.ttl_ms)
        self._key_bytes += len(key.entry)

    def _add(self, fact: Fact) -> None:
        more = ""
        if isinstance(fact, RolledBack):  # of one whose redemption is not recorded these are None, and redo refuses it
            more = f"{fact.redeemed} {fact.discount_e4} {key_names.bucket(encode_field(fact.user))}"
        self._events += (decided(fact), str(fact.id), more)
        self._facts.append(fact)

    async def _send_events(self, mark: str) -> None:
        args, facts, self._events, self._facts = self._events, self._facts, [], []
        await self._send("redo", self._names, [mark, *args], facts=facts)
        await self._count(len(facts))

    async def _send_keys(self) -> None:
        args, self._keys = self._keys, []
        size, self._key_bytes = self._key_bytes, 0
        await self._send("restore_keys", self._names[:1], args, size=size)

    async def _restore_halves(self, args: Sequence[Any]) -> None:
        """A run of restore_keys that failed, by halves down to the answer that can't be restored: it is left out."""
        if len(args) == 3:
            self._answers_left_out += 1
            if self._answers_left_out > MAX_LEFT_OUT:
                raise TooManyFailed(f"{MAX_LEFT_OUT} answers can't be restored")
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

    async def _all_sent(self) -> None:
        """What fails after the first failure is its consequence."""
        try:
            while self._running:
                await self._first_sent()
        finally:
            await asyncio.gather(*(run.running for run in self._running), return_exceptions=True)
            self._running.clear()
            self._in_flight_bytes = 0

    async def _first_sent(self) -> None:
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
            self._left_out += len(reply[1:]) // 2
            if self._setting_aside:
                await self._setting_aside.take(first.facts, reply[1:])

    async def _send(
        self, script: str, names: Sequence[str], args: Sequence[Any], *, size: int = 0, facts: Sequence[Fact] = ()
    ) -> None:
        """`size`: the bytes of its arguments, where they vary; `facts`: those that it applies."""
        while self._running and (len(self._running) >= RUNS_AT_ONCE or self._in_flight_bytes + size > IN_FLIGHT_BYTES):
            await self._first_sent()
        run = self._server.run(self.scripts, script, names, args)
        self._running.append(_Run(facts, args, size, asyncio.ensure_future(run)))
        self._in_flight_bytes += size

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        log.info("mended", partition=self._partition, step=step, took_s=round(time.monotonic() - began, 3))

    async def _count(self, done: int) -> None:
        """Say in Postgres how far it is, now and then."""
        self._done += done
        if (now := time.monotonic()) >= self._tell_at:
            self._tell_at = now + TELL_S
            await advance_recovery(self._pool, self._partition, self.scripts.epoch, self._done)

    async def _run(self, partition: int, script: str, names: Sequence[str], args: Sequence[Any]) -> Reply:
        return await self._server.run(self.scripts, script, names, args)
