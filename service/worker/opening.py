"""Opening a partition: from a Redis that nobody has verified to one that holds all that Postgres holds."""

import asyncio
import secrets
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import asyncpg
import structlog

from service.domain import keys
from service.domain.events import Fact, Redeemed, decided, entry_digest, packed
from service.domain.projection import BookRow, CodeRow, UserRow, WorkspaceRow
from service.hot.deciding import Reply
from service.hot.projection import RedisProjector
from service.hot.scripts import HOT, MENDING, PROJECTION, Scripts
from service.hot.server import Server
from service.record.changes import Change, changes_since
from service.record.facts import facts_in_order, live_keys
from service.record.partitions import LeaseLost, begin_epoch, confirm_open, enter_epoch, read_partition
from service.record.quarantine import set_aside
from service.worker.flush import AnchorLost, Flusher

SETTLE_S = 0.5
"""As long as processes may take to learn of an epoch; then none uses an older one, on whatever server."""
EVENTS_A_RUN = 50
KEYS_A_RUN = 100
RUNS_AT_ONCE = 16

log = structlog.get_logger()


class Opening:
    """Opens one partition under its lease, on one connection.

    1. Draw a new epoch; whoever held the lease before can't commit from here on.
    2. Fence Redis: the gate says closed, and nothing of an older epoch can write. Wait until all processes know.
    3. Record what the outbox holds up to the fence.
    4. Where the anchor is not in it, this Redis is not the one that the record follows: set aside what the record
       doesn't have of it, clear it, and rebuild it whole from Postgres.
    5. Apply the configuration that this Redis has not seen.
    6. Load the scripts, check the server once more, say in Postgres that the epoch is open, then open the gate.

    Killed anywhere, the gate is closed or the job is done.
    """

    def __init__(self, server: Server, pool: asyncpg.Pool, flusher: Flusher, fence: int) -> None:
        self._server, self._pool, self._flusher, self._fence = server, pool, flusher, fence
        self._partition = server.partition
        self._log = log.bind(partition=server.partition)

    async def run(self) -> Scripts:
        """Open; the scripts of the new epoch. Raises LeaseLost, Fenced, UnfitRedis, Broken, OutboxGap."""
        server, nonce = self._server, secrets.token_hex(8)
        await server.check()
        epoch = await begin_epoch(self._pool, self._partition, self._fence, nonce)
        self._log.info("opening", epoch=epoch)
        await server.fence(epoch)
        await asyncio.sleep(SETTLE_S)
        mending = Scripts(self._partition, epoch, nonce, MENDING, "closed")
        await server.load(mending)
        mend = _Mend(server, mending)
        try:
            await self._flusher.drain(epoch)
        except AnchorLost as lost:
            self._log.warning("rebuilding", reason=str(lost))
            await self._set_aside(epoch)
            await mend.clear()
            await self._configure(mend, 0)
            await self._rebuild(mend)
            await self._enter(epoch)
        await self._configure(mend, await mend.projector.last_seen(self._partition))
        scripts = Scripts(self._partition, epoch, nonce, [*HOT, *PROJECTION])
        await server.load(scripts)
        await server.check()
        if not await confirm_open(self._pool, self._partition, self._fence, epoch):
            raise LeaseLost(f"partition {self._partition}: epoch {epoch} is not ours to open")
        await server.move_gate(f"{epoch} closed", f"{epoch} open")
        self._log.info("open", epoch=epoch)
        return scripts

    async def _set_aside(self, epoch: int) -> None:
        """Keep the events apart that the record doesn't have and now can't follow."""
        row, aside = await read_partition(self._pool, self._partition), 0
        async for entry_id, fields in self._server.entries():
            at = _id(entry_id)
            if row.cursor < at < (epoch, 0) and fields[1] != "O":
                aside += 1
                await set_aside(self._pool, self._partition, at, fields[1].encode(), fields[3].encode())
        if aside:
            self._log.error("events_set_aside", events=aside)

    async def _enter(self, epoch: int) -> None:
        """Let the cursor go to the new epoch. Only a Redis that is whole may be followed: before this, a worker that
        takes over finds the anchor lost still, and rebuilds again."""
        row = await read_partition(self._pool, self._partition)
        digest = entry_digest(f"{epoch}-0".encode(), b"O", b"")
        if not await enter_epoch(self._pool, self._partition, self._fence, row.cursor, epoch, digest):
            raise LeaseLost(f"partition {self._partition}: the cursor is no longer at {row.cursor}")

    async def _configure(self, mend: "_Mend", since: int) -> None:
        async for change in changes_since(self._pool, self._partition, since):
            await project(mend.projector, self._partition, change)

    async def _rebuild(self, mend: "_Mend") -> None:
        """Every fact again, in order, by the rules that the scripts share; then the idempotency keys."""
        events = 0
        async with self._pool.acquire() as connection:
            async with aclosing(facts_in_order(connection, self._partition)) as facts:
                async for fact in facts:
                    await mend.redo(fact)
                    events += 1
            await mend.flush()
            async with aclosing(live_keys(connection, self._partition)) as kept:
                async for key in kept:
                    if key.ttl_ms > 0:
                        name = f"{keys.prefix(self._partition, key.workspace)}i:{key.key}"
                        await mend.restore(name, key.entry, key.ttl_ms)
            await mend.flush()
        self._log.info("rebuilt", events=events)


class _Mend:
    """Writes into a closed Redis, many runs on their way at once, in order."""

    def __init__(self, server: Server, scripts: Scripts) -> None:
        self._server, self._scripts = server, scripts
        self._events: list[Any] = []
        self._keys: list[Any] = []
        self._running: deque[asyncio.Task[Reply]] = deque()
        self.projector = RedisProjector(self._run)

    async def clear(self) -> None:
        """Remove all of the partition's keys but gate and outbox."""
        async for page in self._server.owned_keys():
            await self._run(self._server.partition, "clear", (self._server.gate,), page)

    async def redo(self, fact: Fact) -> None:
        """Apply an event again."""
        event_id = record = b""
        if isinstance(fact, Redeemed):
            event_id, record = f"{fact.epoch}-{fact.seq}", packed(fact.request)
        self._events += (decided(fact), event_id, record)
        if len(self._events) >= EVENTS_A_RUN * 3:
            await self._send("redo", self._events)
            self._events = []

    async def restore(self, name: str, entry: str, ttl_ms: int) -> None:
        """Bring an idempotency key back."""
        self._keys += (name, entry, ttl_ms)
        if len(self._keys) >= KEYS_A_RUN * 3:
            await self._send("restore_keys", self._keys)
            self._keys = []

    async def flush(self) -> None:
        """Wait until everything is written."""
        if self._events:
            await self._send("redo", self._events)
            self._events = []
        if self._keys:
            await self._send("restore_keys", self._keys)
            self._keys = []
        while self._running:
            await self._running.popleft()

    async def _send(self, script: str, args: list[Any]) -> None:
        if len(self._running) >= RUNS_AT_ONCE:
            await self._running.popleft()
        run = self._server.run(self._scripts, script, (self._server.gate,), args)
        self._running.append(asyncio.ensure_future(run))

    async def _run(self, partition: int, script: str, names: Sequence[str], args: Sequence[Any]) -> Reply:
        return await self._server.run(self._scripts, script, names, args)


async def project(projector: RedisProjector, partition: int, change: Change) -> None:
    """Write a change's rows, and remember that everything up to its version is there."""
    rows = change.rows
    if rows and isinstance(rows[0], CodeRow):
        by_workspace: dict[int, list[CodeRow]] = {}
        for row in rows:
            by_workspace.setdefault(row.workspace, []).append(row)  # type: ignore[arg-type]
        for workspace, codes in by_workspace.items():
            await projector.codes(workspace, partition, change.version, codes)
    else:
        for row in rows:
            match row:
                case WorkspaceRow():
                    await projector.workspace(row)
                case BookRow():
                    await projector.book(row)
                case UserRow():
                    await projector.user(row)
    await projector.seen_all(partition, change.version)


def _id(text: str) -> tuple[int, int]:
    epoch, seq = text.split("-")
    return int(epoch), int(seq)
