"""The connections to Redis that a worker's partitions share, one to each server, and the checks that they share.
partition_worker.py calls this; server_metrics.py shows what the checks saw."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import hiredis

from service.common.redis_address import Host, parse_redis_address
from service.engine.formats import key_names
from service.engine.formats.key_names import Key
from service.engine.hot.cluster import Report
from service.engine.hot.connection import Connection, ask_report, connect, leave_moved
from service.engine.hot.discovery import SentinelView, ask_sentinels, locate
from service.engine.hot.fitness import Fitness, Pulse, Replication, ask_pulse, ask_replication, check_server
from service.engine.hot.scripts import Scripts

RETRY_S = 0.1
GATHER_S = 0.02
"""Partitions that ask within this time get the same answer."""

_STRINGS = [kind for kind, type_ in key_names.OWN.items() if type_ == "string"]


async def wait_for_turn(period_s: float, turns: int) -> bool:
    """Wait for the next turn, at the same moment in all partitions; return whether it is every `turns`-th."""
    turn = int(time.monotonic() / period_s) + 1
    await asyncio.sleep(turn * period_s - time.monotonic())
    return turn % turns == 0


class PartitionCheck(NamedTuple):
    """The state of the server and of a partition at one moment."""

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
        self._to_check: dict[int, Scripts] = {}
        self._answering: dict[str, asyncio.Task[Any]] = {}
        self.last_fitness: Fitness | None = None
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
        sent_s = time.time()
        self.last_fitness = fitness = await check_server(self.connection.call)
        if fitness.clock_us:
            self.clock_offset_s = fitness.clock_us / 1e6 - (sent_s + time.time()) / 2
        return fitness

    async def pulse(self) -> Pulse:
        return await self._share("pulse", lambda: ask_pulse(self.connection.call))

    async def check_partition(self, scripts: Scripts) -> PartitionCheck:
        """Check the gate of the scripts' partition, and whether the server has the scripts."""
        self._to_check[scripts.partition] = scripts
        check = (await self._share("partitions", self._check_partitions))[scripts.partition]
        if isinstance(check, hiredis.ReplyError):
            raise check
        return check

    async def _check_partitions(self) -> dict[int, PartitionCheck | hiredis.ReplyError]:
        """Four commands, for any number of partitions; in a cluster two, and two for each partition, which may be
        refused by themselves. Redis loses all scripts of an epoch or none, so the first stands for all."""
        scripts_of, self._to_check = self._to_check, {}
        firsts = [next(iter(scripts.digests.values())) for scripts in scripts_of.values()]
        groups = [[partition] for partition in scripts_of] if self._is_cluster else [list(scripts_of)]
        call = self.connection.call
        (replication, loaded), replies_of_groups = await asyncio.gather(
            asyncio.gather(ask_replication(call), call("SCRIPT", "EXISTS", *firsts)),
            asyncio.gather(*map(self._read_gates, groups)),
        )
        if isinstance(loaded, hiredis.ReplyError):
            raise loaded
        gates = {partition: reply for group in replies_of_groups for partition, reply in group.items()}
        checks: dict[int, PartitionCheck | hiredis.ReplyError] = {}
        for partition, has in zip(scripts_of, loaded, strict=True):
            reply = gates[partition]
            is_read = not isinstance(reply, hiredis.ReplyError)
            checks[partition] = PartitionCheck(replication, *reply, has_scripts=bool(has)) if is_read else reply
        return checks

    async def _read_gates(self, partitions: Sequence[int]) -> dict[int, tuple[str, bool] | hiredis.ReplyError]:
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

    async def _share(self, name: str, check: Callable[[], Awaitable[Any]]) -> Any:
        if name not in self._answering:
            self._answering[name] = task = asyncio.create_task(self._answer(name, check))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # all that asked may have ended
        return await asyncio.shield(self._answering[name])

    async def _answer(self, name: str, check: Callable[[], Awaitable[Any]]) -> Any:
        await asyncio.sleep(GATHER_S)
        del self._answering[name]  # a partition that asks from now on gets a later answer
        return await check()


class SharedRedis:
    """A process's connections, one to each server. If one breaks, the work on its partitions ends and begins again."""

    def __init__(self, redis_url: str) -> None:
        self._address = parse_redis_address(redis_url)
        self._watches: dict[Host | None, ServerWatch] = {}
        """By the node of a cluster; else there is one, of None."""
        self._connecting: dict[Host | None, asyncio.Task[ServerWatch]] = {}
        self._following: dict[Host | None, asyncio.Task[None]] = {}
        """Each ends with its connection."""
        self._unreached: dict[int, float] = {}
        """Since when (time.monotonic) a partition's server was tried and not reached."""
        self.last_error: OSError | None = None
        """Of the last attempt that failed."""
        self.lost = asyncio.Event()
        """Set when the next connection is lost; there is another event then."""

    async def watch(self, partition: int) -> ServerWatch:
        """The current connection to the partition's server, or a new one. Raises OSError."""
        address = self._address
        self._unreached.setdefault(partition, time.monotonic())
        try:
            node = await locate(address, partition) if address.is_cluster else None
            if node not in self._connecting:
                self._connecting[node] = connecting = asyncio.create_task(self._connect(node))
                connecting.add_done_callback(lambda done: done.cancelled() or done.exception())
            watch = await asyncio.shield(self._connecting[node])
        except OSError as error:
            self.last_error = error
            raise
        self._unreached.pop(partition, None)
        return watch

    async def _connect(self, node: Host | None) -> ServerWatch:
        """For all partitions that ask in that time."""
        address = self._address
        try:
            self._watches = {at: watch for at, watch in self._watches.items() if not watch.connection.lost}
            if node not in self._watches:
                connection = await connect(address.at(node) if node else address, "scrip-worker", self._note_loss)
                self._watches[node] = ServerWatch(connection, is_cluster=address.is_cluster)
                self._following[node] = asyncio.create_task(leave_moved(address, connection))
            return self._watches[node]
        finally:
            del self._connecting[node]

    def _note_loss(self) -> None:
        self.lost.set()
        self.lost = asyncio.Event()

    async def ask_sentinels(self) -> list[SentinelView | None]:
        """What each sentinel of the address reports; [] without sentinels."""
        return await ask_sentinels(self._address) if self._address.service else []

    def watches(self) -> Sequence[ServerWatch]:
        """Of the servers to which there is a connection."""
        return [watch for watch in self._watches.values() if not watch.connection.lost]

    def has_reached(self, partition: int) -> bool:
        """Whether the partition's server was reached when it was tried last, and no server's connection is lost."""
        is_lost = any(watch.connection.lost for watch in self._watches.values())
        return bool(self._watches) and not is_lost and partition not in self._unreached

    async def wait_until_reached(self, partition: int) -> None:
        """Return once there is a connection to the partition's server."""
        while not self.has_reached(partition):
            with contextlib.suppress(OSError):
                await self.watch(partition)
                return
            await asyncio.sleep(RETRY_S)

    def unreached(self) -> Mapping[int, float]:
        """The partitions whose server is not reached, and for how many seconds."""
        now = time.monotonic()
        return {partition: now - since for partition, since in self._unreached.items()}

    def close(self) -> None:
        for watch in self._watches.values():
            watch.connection.close()
        for task in (*self._following.values(), *self._connecting.values()):
            task.cancel()
