"""Copy a workspace's keys to another open partition, and follow their changes (docs/decisions/0055).

The modules in service/worker/moving/ call this for a move: it writes to both Redis servers.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio.connection import AbstractConnection

from service.common.pace import Pace
from service.common.redis_address import parse_redis_address
from service.formats import key_names
from service.formats.event_id import EventId, parse_event_id
from service.hot.connection import Connection
from service.hot.discovery import CONNECT_S, locate, open_client
from service.hot.redis_server import Server
from service.hot.scripts import MOVING, PROJECTION, SERVING, Scripts

KEYS_A_RUN = 100
"""Some hundred microseconds in Redis, and one fsync."""
RUNS_AT_ONCE = 8
"""Under load each run waits milliseconds for the server, twice. Fewer at once copy less than what changes."""
CALM_AT_ONCE, SHARE = 2, 1 / 3
"""While nothing else changes the keys: fewer runs, for that share of the time, so that other requests wait little."""
OWN_KINDS = frozenset("wm")
"""The settings, without which scripts refuse the workspace, and the mark of its leaving are not copied."""
LEFT_MS = 86_400_000
"""The life of the mark. It stops settings from before the move, which a process that was stopped may still write."""


class NotVerified(Exception):
    """The server doesn't have the epoch's scripts."""


class ChangesLost(Exception):
    """Redis no longer names the changed keys."""


class ChangedKeys:
    """The names of a workspace's keys that have changed: each once, however often it changes.

    Redis sends them by itself (`CLIENT TRACKING … BCAST`), in the order of the changes, also for keys that expire.
    """

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._is_lost = False
        self._came = asyncio.Event()

    @property
    def count(self) -> int:
        return len(self._names)

    def take(self) -> list[str]:
        """The names since the last call. Raises ChangesLost."""
        self._check()
        names, self._names = self._names, set()
        return sorted(names)

    def forget(self, *names: str) -> None:
        """Remove these names from those since the last call of `take`."""
        self._names.difference_update(names)

    async def until(self, *names: str) -> None:
        """Wait until these keys are among the changed ones: then all earlier changes are. Raises ChangesLost."""
        while not self._names.issuperset(names):
            self._check()
            self._came.clear()
            await self._came.wait()

    async def read(self, connection: AbstractConnection) -> None:
        """Read what Redis sends until the connection breaks."""
        try:
            while True:
                await connection.read_response(push_request=True)
        finally:
            self._is_lost = True
            self._came.set()

    async def take_push(self, push: Sequence[Any]) -> None:
        """Take the names of a message."""
        if push[1] is None:  # FLUSHALL
            self._is_lost = True
        else:
            self._names.update(push[1])
        self._came.set()

    def _check(self) -> None:
        if self._is_lost:
            raise ChangesLost("the connection that names changed keys broke")


@asynccontextmanager
async def follow_changes(redis_url: str, partition: int, workspace: int) -> AsyncIterator[ChangedKeys]:
    """Follow the changes of a workspace's keys from now on. Raises OSError."""
    address, changed = parse_redis_address(redis_url), ChangedKeys()
    prefix = key_names.prefix(partition, workspace)
    options = {"client_name": "scrip-changes", "protocol": 3, "encoding_errors": "replace"}
    async with open_client(address, await locate(address, partition), **options) as client:
        async with asyncio.timeout(CONNECT_S):
            connection: Any = await client.connection_pool.get_connection()
            connection._parser.set_invalidation_push_handler(changed.take_push)  # noqa: SLF001, only it passes them on
            await connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", prefix)
            await connection.read_response()
        reading = asyncio.create_task(changed.read(connection))
        try:
            yield changed
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


class Copies:
    """The keys of one workspace in one open partition. Everything raises Fenced after the end of the epoch, Broken if
    the connection breaks, NotVerified before `start` has verified the server."""

    def __init__(self, connection: Connection, partition: int, epoch: int, nonce: str, workspace: int) -> None:
        """The connection has no encoding: stored values are bytes."""
        self._server = Server(connection, partition)
        self.partition, self.workspace = partition, workspace
        self.prefix = key_names.prefix(partition, workspace)
        self._scripts = Scripts(partition, epoch, nonce, MOVING)
        self._verified = Scripts(partition, epoch, nonce, [*SERVING, *PROJECTION])
        self._gate = self._server.gate

    async def start(self) -> None:
        """Check that this is the server of the epoch, and load the scripts. Raises NotVerified."""
        if not await self._server.has(self._verified):
            raise NotVerified(f"the server of partition {self.partition} does not have the epoch's scripts")
        await self._server.load(self._scripts)

    async def names(self) -> AsyncIterator[list[str]]:
        """Pages of the names of the workspace's keys, as Server.names, and large enough for RUNS_AT_ONCE."""
        names: list[str] = []
        async for page in self._server.names(self.prefix):
            names += [name.decode("utf-8", "replace") for name in page]
            if len(names) >= KEYS_A_RUN * RUNS_AT_ONCE:
                yield names
                names = []
        yield names

    async def clear(self, but: frozenset[str] = frozenset()) -> None:
        """Remove the workspace's keys, except those of some kinds."""
        pace = Pace(SHARE)
        async for names in self.names():
            kept = [name for name in names if self.kind_of(name) not in but]
            with pace:
                await _run_all(kept, lambda run: self._run("clear", (self._gate,), run), CALM_AT_ONCE)
            await pace.rest()

    async def has_books(self) -> bool:
        """Whether the partition has any book of the workspace."""
        return bool(await self._server.command("EXISTS", key_names.books(self.prefix)))

    async def clear_books(self) -> None:
        """Remove the books' numbers: before all else, so that what is removed in part is known as such."""
        await self._run("clear", (self._gate,), [key_names.books(self.prefix)])

    async def copy_from(self, source: "Copies", names: Sequence[str], at_once: int = RUNS_AT_ONCE) -> None:
        """Copy these keys of the source; remove those that it doesn't have."""
        kept = [name for name in names if source.kind_of(name) not in OWN_KINDS]
        await _run_all(kept, lambda run: self._copy_run(source, run), at_once)

    async def read(self, names: Sequence[str]) -> list[Any]:
        """The stored values of the first of these keys, each with its remaining life in ms."""
        return (await self._run("copy_out", (self._gate,), names))[1:]

    async def leave(self, version: int) -> EventId:
        """Take the workspace out of use, so that settings up to this version do not return; return the last event."""
        names = (self._gate, *self.left_names, key_names.forgotten(self.partition), self._server.outbox)
        _, last = await self._run("leave", names, (version, self.workspace, LEFT_MS))
        return parse_event_id(last.decode())

    async def arrive(self) -> EventId:
        """Append an event, after everything that was copied."""
        _, event = await self._run("arrive", (self._gate, key_names.settings(self.prefix), self._server.outbox), ())
        return parse_event_id(event.decode())

    async def project(self, partition: int, script: str, names: Sequence[str], args: Sequence[Any]) -> list[Any]:
        """Run a script that writes configuration (service/hot/projection.py)."""
        assert partition == self.partition  # noqa: S101
        return await self._server.run(self._verified, script, names, args)

    async def remember_orders(self, since_ms: int) -> None:
        """Store since when the workspace's orders are remembered."""
        await self._server.command("HSET", key_names.forgotten(self.partition), str(self.workspace), str(since_ms))

    @property
    def left_names(self) -> tuple[str, str]:
        """The keys of the workspace that `leave` changes."""
        return key_names.settings(self.prefix), key_names.left(self.prefix)

    async def _copy_run(self, source: "Copies", names: Sequence[str]) -> None:
        while names:
            values = await source.read(names)
            copied = len(values) // 2
            args: list[Any] = []
            for name, stored, left_ms in zip(names[:copied], values[::2], values[1::2], strict=True):
                # A key without an expiry has -1, which is 0 here; one that is about to expire may have 0.
                args += (self.prefix + name.removeprefix(source.prefix), stored, 0 if left_ms < 0 else max(1, left_ms))
            await self._run("copy_in", (self._gate,), args)
            names = names[copied:]

    async def _run(self, script: str, names: Sequence[str], args: Sequence[Any]) -> list[Any]:
        return await self._server.run(self._scripts, script, names, args)

    def kind_of(self, name: str) -> str:
        """The kind of a key of the workspace."""
        return name.removeprefix(self.prefix).partition(":")[0]


async def _run_all(names: Sequence[str], run: Callable[[Sequence[str]], Awaitable[Any]], at_once: int) -> None:
    """Run something for all of these names, KEYS_A_RUN in a run. A run begins as soon as another one ends."""
    runs = iter([names[start : start + KEYS_A_RUN] for start in range(0, len(names), KEYS_A_RUN)])

    async def take_runs() -> None:
        for some in runs:
            await run(some)

    await asyncio.gather(*(take_runs() for _ in range(min(at_once, -(-len(names) // KEYS_A_RUN)))))
