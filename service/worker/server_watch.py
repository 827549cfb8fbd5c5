"""The connection to Redis that all partitions of a worker share, and the checks of its server that they share."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import hiredis

from service.formats import key_names
from service.formats.key_names import Key
from service.hot.connection import Connection, connect, leave_moved
from service.hot.fitness import Fitness, Pulse, Replication, ask_pulse, ask_replication, check_server
from service.hot.scripts import Scripts

RETRY_S = 0.1
GATHER_S = 0.02
"""Partitions that ask within this time get the same answer."""

_STRINGS = [kind for kind, type_ in key_names.OWN.items() if type_ == "string"]


async def until_turn(period_s: float, turns: int = 1) -> bool:
    """Wait for the next turn, at the same moment in all partitions; return whether it is every `turns`-th."""
    turn = int(time.monotonic() / period_s) + 1
    await asyncio.sleep(turn * period_s - time.monotonic())
    return turn % turns == 0


class Look(NamedTuple):
    """What a partition sees of the server at one moment."""

    replication: Replication
    gate: str
    """'' if it is missing or of a wrong type."""
    has_scripts: bool
    may_have_wrong_type: bool
    """Whether a key of some partition has a wrong type."""


class ServerWatch:
    """One connection, and checks of its server. Each check is made once for all partitions that ask at the same time.

    All methods raise Broken if the connection breaks, and hiredis.ReplyError.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._asked: dict[int, Scripts] = {}
        self._answering: dict[str, asyncio.Task[Any]] = {}

    async def replication(self) -> Replication:
        return await self._share("replication", lambda: ask_replication(self.connection.call))

    async def fitness(self) -> Fitness:
        return await self._share("fitness", lambda: check_server(self.connection.call))

    async def pulse(self) -> Pulse:
        """As fitness.ask_pulse."""
        return await self._share("pulse", lambda: ask_pulse(self.connection.call))

    async def look(self, scripts: Scripts) -> Look:
        """Look at the gate of the scripts' partition, and whether the server has the scripts."""
        self._asked[scripts.partition] = scripts
        return (await self._share("look", self._look))[scripts.partition]

    async def _look(self) -> dict[int, Look]:
        """Four commands, whatever the number of partitions. Redis loses all scripts of an epoch or none, so the first
        stands for all. MGET returns nothing for a key of another type, which EXISTS counts."""
        asked, self._asked = self._asked, {}
        names = [Key(partition, 0, kind).name for partition in asked for kind in _STRINGS]
        firsts = [next(iter(scripts.digests.values())) for scripts in asked.values()]
        call = self.connection.call
        replication, texts, existing, loaded = await asyncio.gather(
            ask_replication(call), call("MGET", *names), call("EXISTS", *names), call("SCRIPT", "EXISTS", *firsts)
        )
        for reply in (texts, loaded):
            if isinstance(reply, hiredis.ReplyError):
                raise reply
        values = dict(zip(names, texts, strict=True))
        # An error: Redis's user may not run EXISTS (an older deploy/redis-acl). Then the types are asked.
        is_wrong = existing != len(texts) - texts.count(None)
        return {
            partition: Look(replication, values[key_names.gate(partition)] or "", bool(has), is_wrong)
            for partition, has in zip(asked, loaded, strict=True)
        }

    async def _share(self, what: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        if what not in self._answering:
            self._answering[what] = task = asyncio.create_task(self._answer(what, ask))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # all that asked may have ended
        return await asyncio.shield(self._answering[what])

    async def _answer(self, what: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        await asyncio.sleep(GATHER_S)
        del self._answering[what]  # who asks from now on gets a later answer
        return await ask()


class SharedRedis:
    """The worker's connection to Redis. If it breaks, the work on all partitions ends and begins again."""

    def __init__(self, redis_url: str) -> None:
        self.url = redis_url
        self._watch: ServerWatch | None = None
        self._connecting = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None
        """Ends with the connection."""

    async def watch(self) -> ServerWatch:
        """The current connection, or a new one. Raises OSError."""
        async with self._connecting:
            if self._watch is None or self._watch.connection.lost:
                connection = await connect(self.url, "scrip-worker")
                self._watch = ServerWatch(connection)
                self._following = asyncio.create_task(leave_moved(self.url, connection))
            return self._watch

    @property
    def is_connected(self) -> bool:
        return self._watch is not None and not self._watch.connection.lost

    async def until_reached(self, at_most_s: float) -> None:
        """Return once there is a connection, after RETRY_S or later, but at most after so long. One partition tries for
        all."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                while True:
                    await asyncio.sleep(RETRY_S)
                    if not self._connecting.locked():
                        with contextlib.suppress(OSError):
                            await self.watch()
                            return

    def close(self) -> None:
        if self._watch:
            self._watch.connection.close()
        if self._following:
            self._following.cancel()
