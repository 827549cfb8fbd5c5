"""The connections to Redis that a worker's partitions share, one to each server, and the checks that they share.
partition_worker.py calls this; server_metrics.py shows what the checks saw."""

import asyncio
import contextlib
import itertools
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import hiredis
import structlog

from service.common.redis_address import Host, parse_redis_address
from service.common.tracebacks import find_reason
from service.engine.formats import key_names
from service.engine.formats.key_names import Key
from service.engine.hot.cluster import Report
from service.engine.hot.connection import Connection, ask_report, connect, leave_moved
from service.engine.hot.discovery import locate
from service.engine.hot.fitness import Fitness, Pulse, Replication, ask_pulse, ask_replication, check_server
from service.engine.hot.scripts import Scripts

RETRY_S, LONGEST_RETRY_S = 0.1, 1.0
GATHER_S = 0.02
"""Partitions that ask within this time get the same answer."""

log = structlog.get_logger()

_STRINGS = [kind for kind, type_ in key_names.OWN.items() if type_ == "string"]


async def until_turn(period_s: float, turns: int) -> bool:
    """Wait for the next turn, at the same moment in all partitions; return whether it is every `turns`-th."""
    turn = int(time.monotonic() / period_s) + 1
    await asyncio.sleep(turn * period_s - time.monotonic())
    return turn % turns == 0


class Look(NamedTuple):
    """What a partition sees of the server at one moment."""

    replication: Replication
    gate: str
    """'' if it is missing or of a wrong type."""
    may_have_wrong_type: bool
    """Whether a key of some partition has a wrong type."""
    has_scripts: bool


class ServerWatch:
    """One connection, and checks of its server. Each check is made once for all partitions that ask at the same time.

    All methods raise Broken if the connection breaks, and hiredis.ReplyError.
    """

    def __init__(self, connection: Connection, *, is_cluster: bool) -> None:
        """`is_cluster`: each partition is in a slot of its own, and a command names keys of one slot only."""
        self.connection = connection
        self._is_cluster = is_cluster
        self._asked: dict[int, Scripts] = {}
        self._answering: dict[str, asyncio.Task[Any]] = {}
        self.seen: Fitness | None = None
        """The server's state when it was checked last."""
        self.clock_offset_s = 0.0
        """What its clock was ahead of this machine's then."""

    async def replication(self) -> Replication:
        return await self._share("replication", lambda: ask_replication(self.connection.call))

    async def report(self) -> Report | None:
        return await self._share("report", lambda: ask_report(self.connection))

    async def fitness(self) -> Fitness:
        return await self._share("fitness", self._check)

    async def _check(self) -> Fitness:
        asked_s = time.time()
        self.seen = fitness = await check_server(self.connection.call)
        if fitness.clock_us:
            self.clock_offset_s = fitness.clock_us / 1e6 - (asked_s + time.time()) / 2
        return fitness

    async def pulse(self) -> Pulse:
        return await self._share("pulse", lambda: ask_pulse(self.connection.call))

    async def look(self, scripts: Scripts) -> Look:
        """Look at the gate of the scripts' partition, and whether the server has the scripts."""
        self._asked[scripts.partition] = scripts
        look = (await self._share("look", self._look))[scripts.partition]
        if isinstance(look, hiredis.ReplyError):
            raise look
        return look

    async def _look(self) -> dict[int, Look | hiredis.ReplyError]:
        """Four commands, whatever the number of partitions; in a cluster two, and two for each partition, which may be
        refused by themselves. Redis loses all scripts of an epoch or none, so the first stands for all."""
        asked, self._asked = self._asked, {}
        firsts = [next(iter(scripts.digests.values())) for scripts in asked.values()]
        groups = [[partition] for partition in asked] if self._is_cluster else [list(asked)]
        call = self.connection.call
        (replication, loaded), groups_own = await asyncio.gather(
            asyncio.gather(ask_replication(call), call("SCRIPT", "EXISTS", *firsts)),
            asyncio.gather(*map(self._read_own, groups)),
        )
        if isinstance(loaded, hiredis.ReplyError):
            raise loaded
        own = {partition: reply for group in groups_own for partition, reply in group.items()}
        looks: dict[int, Look | hiredis.ReplyError] = {}
        for partition, has in zip(asked, loaded, strict=True):
            reply = own[partition]
            is_read = not isinstance(reply, hiredis.ReplyError)
            looks[partition] = Look(replication, *reply, has_scripts=bool(has)) if is_read else reply
        return looks

    async def _read_own(self, partitions: Sequence[int]) -> dict[int, tuple[str, bool] | hiredis.ReplyError]:
        """Gate and may_have_wrong_type of each partition. MGET returns nothing for other types, which EXISTS counts."""
        names = [Key(partition, 0, kind).name for partition in partitions for kind in _STRINGS]
        call = self.connection.call
        texts, existing = await asyncio.gather(call("MGET", *names), call("EXISTS", *names))
        for reply in (texts, existing):
            if isinstance(reply, hiredis.ReplyError):
                return dict.fromkeys(partitions, reply)
        values = dict(zip(names, texts, strict=True))
        is_wrong = existing != len(texts) - texts.count(None)
        return {partition: (values[key_names.gate(partition)] or "", is_wrong) for partition in partitions}

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
    """A process's connections, one to each server. If one breaks, the work on its partitions ends and begins again."""

    def __init__(self, redis_url: str) -> None:
        self._address = parse_redis_address(redis_url)
        self._watches: dict[Host | None, ServerWatch] = {}
        """By the node of a cluster; else there is one, of None."""
        self._connecting: defaultdict[Host | None, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._following: dict[Host | None, asyncio.Task[None]] = {}
        """Each ends with its connection."""
        self._unreached: set[int] = set()
        """The partitions whose server was not reached when it was tried last."""

    async def watch(self, partition: int) -> ServerWatch:
        """The current connection to the partition's server, or a new one. Raises OSError."""
        address = self._address
        self._unreached.add(partition)
        node = await locate(address, partition) if address.is_cluster else None
        async with self._connecting[node]:
            self._watches = {at: watch for at, watch in self._watches.items() if not watch.connection.lost}
            watch = self._watches.get(node)
            if watch is None:
                connection = await connect(address.at(node) if node else address, "scrip-worker")
                watch = self._watches[node] = ServerWatch(connection, is_cluster=address.is_cluster)
                self._following[node] = asyncio.create_task(leave_moved(address, connection))
            self._unreached.discard(partition)
            return watch

    async def until_one_is_reached(self, partitions: int) -> None:
        """Return once there is a connection to the server of one of so many partitions: try one after another."""
        pause_s = RETRY_S
        for partition in itertools.cycle(range(partitions)):
            try:
                await self.watch(partition)
                return
            except OSError as error:
                log.warning("redis_away", reason=find_reason(error))
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_RETRY_S)

    def watches(self) -> Sequence[ServerWatch]:
        """Of the servers to which there is a connection."""
        return [watch for watch in self._watches.values() if not watch.connection.lost]

    def has_reached(self, partition: int) -> bool:
        """Whether the partition's server was reached when it was tried last, and no server's connection is lost."""
        is_lost = any(watch.connection.lost for watch in self._watches.values())
        return bool(self._watches) and not is_lost and partition not in self._unreached

    async def until_reached(self, partition: int, at_most_s: float) -> None:
        """Return once there is a connection to the partition's server, after RETRY_S or later, but at most after so
        long. One partition tries for all."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                while True:
                    await asyncio.sleep(RETRY_S)
                    if not any(lock.locked() for lock in self._connecting.values()):
                        with contextlib.suppress(OSError):
                            await self.watch(partition)
                            return

    def close(self) -> None:
        for watch in self._watches.values():
            watch.connection.close()
        for following in self._following.values():
            following.cancel()
