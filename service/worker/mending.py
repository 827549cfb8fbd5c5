"""Writing what is recorded into a closed Redis: all of it, or what it lacks."""

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

import asyncpg
import structlog

from service.domain import keys
from service.domain.events import Fact, Redeemed, RolledBack, decided
from service.domain.projection import BookRow, CodeRow, UserRow, WorkspaceRow
from service.domain.words import word
from service.hot.deciding import Reply
from service.hot.projection import RedisProjector
from service.hot.scripts import Scripts
from service.hot.server import Server
from service.record.changes import Change, changes_since
from service.record.past import START, KeptKey, fact_pages, key_pages
from service.record.pool import Connection
from service.record.recovery import advance_recovery

EVENTS_A_RUN = 250
"""Some 7 ms of Redis's time, and one fsync."""
KEYS_A_RUN = 500
RUNS_AT_ONCE = 32
VERSIONS_AT_ONCE = 8
TELL_S = 0.5
END = (2**62, 0)
"""After every event."""
WHOLE = "whole"
"""The mark while everything is rebuilt."""

log = structlog.get_logger()


class Mending:
    """Many runs on their way at once, in order; each checks that the gate still says that this epoch is closed."""

    def __init__(self, server: Server, pool: asyncpg.Pool, scripts: Scripts) -> None:
        self._server, self._pool, self.scripts = server, pool, scripts
        self._partition = server.partition
        self._names = (server.gate, keys.mend(server.partition))
        self._layout = keys.layout(server.partition)
        self._events: list[Any] = []
        self._keys: list[Any] = []
        self._running: deque[tuple[str, asyncio.Task[Reply]]] = deque()
        self._done = 0
        self._unknown = 0
        """Events of codes that Redis doesn't have, nor Postgres any more."""
        self._tell_at = 0.0
        self.projector = RedisProjector(self._run)

    async def mark(self, text: str) -> None:
        """Say how far the mending is; '' for done: then all keys are of this layout."""
        await self._run(self._partition, "mark", (*self._names, self._layout), (text, keys.LAYOUT))

    async def mended(self) -> None:
        """Say in the outbox that all of it is done: what is lost later is lost together with this entry."""
        names = (self._server.gate, self._server.outbox)
        await self._run(self._partition, "mended", names, (self.scripts.nonce,))

    async def clear(self) -> None:
        """Remove all of the partition's keys but gate, outbox and mark."""
        with self._timed("clear"):
            async for page in self._server.owned_keys():
                await self._run(self._partition, "clear", self._names[:1], page)

    async def configure(self, since: int, *, whole: bool = False) -> None:
        """Project what the configuration has after a version. Codes go out some versions at a time; that they are there
        is said when all of them are. With `whole`, fill_pools must follow."""
        with self._timed("configure"):
            await self._configure(since, whole)

    async def fill_pools(self) -> None:
        """Say which codes are free, once everything else is as it should be."""
        with self._timed("pools"):
            async for page in self._server.owned_keys("w*:d:*"):
                while page:
                    page = (await self._run(self._partition, "fill_pool", self._names[:1], page))[1:]  # noqa: PLW2901

    async def _configure(self, since: int, whole: bool) -> None:
        going: deque[asyncio.Task[None]] = deque()
        try:
            async for change in changes_since(self._pool, self._partition, since):
                if change.rows and isinstance(change.rows[0], CodeRow):
                    going.append(asyncio.create_task(_codes(self.projector, self._partition, change, whole)))
                    await self._count(len(change.rows))
                while len(going) >= VERSIONS_AT_ONCE or (going and not change.rows):
                    await going.popleft()
                if not change.rows or not isinstance(change.rows[0], CodeRow):
                    await project(self.projector, self._partition, change)
        finally:
            await asyncio.gather(*going, return_exceptions=True)

    async def restore_keys(self, after: tuple[int, int]) -> None:
        """Restore the idempotency keys of events after one. Before these are applied again, where the mark moves with
        that: whoever goes on from the mark takes the keys to be there."""
        try:
            with self._timed("keys"):
                async with self._pool.acquire() as connection:
                    await self._kept_keys(connection, after)
                await self._all_sent()
        finally:
            await self._all_sent()

    async def redo(self, after: tuple[int, int], keep_mark: bool, until: tuple[int, int] = END) -> int:
        """Apply the events after one again, in order, up to another; how many facts. With `keep_mark` the mark stays
        what it is, else it follows."""
        try:
            with self._timed("redo"):
                async with self._pool.acquire() as connection:
                    events = await self._facts(connection, after, keep_mark, until)
                await self._all_sent()
            if self._unknown:
                log.error("events_of_unknown_codes", partition=self._partition, events=self._unknown)
            return events
        finally:
            await self._all_sent()

    async def _facts(
        self, connection: Connection, after: tuple[int, int], keep_mark: bool, until: tuple[int, int]
    ) -> int:
        events, last = 0, START
        async with aclosing(fact_pages(connection, self._partition, after=after)) as pages:
            async for page in pages:
                if (page[-1].epoch, page[-1].seq) > until:
                    page = [fact for fact in page if (fact.epoch, fact.seq) <= until]  # noqa: PLW2901
                for fact in page:
                    # An event's facts go out in one run: the mark is an event's.
                    if len(self._events) >= EVENTS_A_RUN * 3 and last != (fact.epoch, fact.seq):
                        await self._send_events(WHOLE if keep_mark else f"{last[0]}-{last[1]}")
                    self._add(fact)
                    last = (fact.epoch, fact.seq)
                events += len(page)
        if self._events:
            await self._send_events(WHOLE if keep_mark else f"{last[0]}-{last[1]}")
        return events

    async def _kept_keys(self, connection: Connection, after: tuple[int, int]) -> None:
        async with aclosing(key_pages(connection, self._partition, after=after)) as pages:
            async for page in pages:
                for key in page:
                    if key.ttl_ms > 0:
                        name = f"{keys.prefix(self._partition, key.workspace)}i:{key.key}"
                        self._keys += (name, _kept(key), key.ttl_ms)
                    if len(self._keys) >= KEYS_A_RUN * 3:
                        await self._send_keys()
        await self._send_keys()

    def _add(self, fact: Fact) -> None:
        event_id = more = ""
        if isinstance(fact, Redeemed):
            event_id = f"{fact.epoch}-{fact.seq}"
        elif isinstance(fact, RolledBack):
            event_id = f"{fact.redeemed[0]}-{fact.redeemed[1]}"
            more = f"{fact.discount_e4} {keys.bucket(word(fact.user))}"
        self._events += (decided(fact), event_id, more)

    async def _send_events(self, mark: str) -> None:
        args, self._events = self._events, []
        await self._send("redo", self._names, [mark, *args])
        await self._count(len(args) // 3)

    async def _send_keys(self) -> None:
        args, self._keys = self._keys, []
        await self._send("restore_keys", self._names[:1], args)

    async def _all_sent(self) -> None:
        """What fails after the first failure is its consequence."""
        try:
            while self._running:
                await self._first_sent()
        finally:
            await asyncio.gather(*(running for _, running in self._running), return_exceptions=True)
            self._running.clear()

    async def _first_sent(self) -> None:
        script, running = self._running.popleft()
        reply = await running
        self._unknown += reply[1] if script == "redo" else 0

    async def _send(self, script: str, names: Sequence[str], args: Sequence[Any]) -> None:
        if len(self._running) >= RUNS_AT_ONCE:
            await self._first_sent()
        run = self._server.run(self.scripts, script, names, args)
        self._running.append((script, asyncio.ensure_future(run)))

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


def _kept(key: KeptKey) -> str:
    """What Redis keeps: '@.' stands for the key's own event."""
    head, named, more = key.entry.partition(" @.")
    return f"{head} @{key.epoch}-{key.seq}{more}" if named and head.count(" ") == 1 else key.entry


async def project(projector: RedisProjector, partition: int, change: Change) -> None:
    """Write a change's rows, and remember that everything up to its version is there."""
    rows = change.rows
    if rows and isinstance(rows[0], CodeRow):
        await _codes(projector, partition, change)
    for row in rows:
        match row:
            case WorkspaceRow():
                await projector.workspace(row)
            case BookRow():
                await projector.book(row)
            case UserRow():
                await projector.user(row)
    await projector.seen_all(partition, change.version)


async def _codes(projector: RedisProjector, partition: int, change: Change, whole: bool = False) -> None:
    by_workspace: dict[int, list[CodeRow]] = {}
    for row in change.rows:
        by_workspace.setdefault(row.workspace, []).append(row)  # type: ignore[arg-type]
    for workspace, codes in by_workspace.items():
        await projector.codes(workspace, partition, change.version, codes, whole=whole)
