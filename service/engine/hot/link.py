"""A connection to Redis that reconnects, for decider.py; a cluster has one for each primary (cluster_links.py)."""

import asyncio
import contextlib
import random
from typing import Any, Self

import structlog

from service.common.background_tasks import run_forever
from service.common.redis_address import Host, RedisAddress
from service.common.tracebacks import find_reason
from service.engine.domain.errors import Refusal
from service.engine.hot.connection import ASK_S, Broken, Connection, OnReply, Reply, connect, leave_moved
from service.engine.hot.fitness import UnfitRedis, check_server

MAX_WAITING = 20_000
"""Requests in flight; the next one is refused."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 0.25

log = structlog.get_logger()


class LinkToAll:
    """The methods of ClusterLinks that take a partition, for one server that has all partitions."""

    fsynced = False
    """Whether the server syncs to disk before it replies: by its settings, or as declared if it hides them."""

    def of(self, partition: int) -> Self:
        """The link of a partition: always this one."""
        return self

    def syncs(self, partition: int) -> bool:
        """Whether all replies for a partition that may come now are fsynced."""
        return self.fsynced

    def suspect(self) -> None:
        """Nothing: no partition can be on another server."""


class Link(LinkToAll):
    """A connection that reconnects. While it is down, requests are refused at once.

    1. Connect, and check that the server is fit to decide and whether it syncs before it replies. Then serve requests.
    2. Check again each second. An unfit server gets no more requests, and answers those in flight.
    3. If the connection breaks, or sentinels name another primary (leave_moved), its requests get Broken. In any case
       reconnect after 20 to 250 ms.
    """

    made = 0
    """How many connections the Links of this process have made."""

    def __init__(self, where: str | RedisAddress, name: str, declared: str | None = None) -> None:
        """`declared`: how a server that hides its settings makes writes durable (SCRIP_REDIS_DURABILITY)."""
        self._where, self._name, self._declared = where, name, declared
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self.history = ""
        """The id of the server's data; '' if the server hides it."""
        self.generation = 0
        """The number of the last connection among those of this process: another may lead to another server."""
        self._unfit = ""

    async def start(self) -> None:
        """Begin to connect, and wait at most a second for the connection."""
        self.begin()
        for _ in range(100):
            if self._connection:
                return
            await asyncio.sleep(0.01)

    def begin(self) -> None:
        """Begin to connect."""
        self._task = asyncio.create_task(run_forever("redis_link", self._keep))

    async def stop(self, *, at_once: bool = False) -> None:
        """Wait at most a second for requests in flight, unless `at_once`; then close."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if connection := self._connection:
            for _ in range(0 if at_once else 100):
                if not connection.waiting:
                    break
                await asyncio.sleep(0.01)
            self._connection = None
            connection.close()

    @property
    def connected(self) -> bool:
        return self._connection is not None

    @property
    def host(self) -> Host | None:
        """The connection's server; None for a socket, and without a connection."""
        return self._connection.host if self._connection else None

    @property
    def connection(self) -> Connection:
        """The connection. Raises Refusal `unavailable` if there is none, or too many requests wait."""
        connection = self._connection
        if connection is None or connection.waiting >= MAX_WAITING:
            raise Refusal.temporary("unavailable")
        return connection

    @property
    def waiting(self) -> int:
        """Requests in flight."""
        return self._connection.waiting if self._connection else 0

    def send(self, on_reply: OnReply, command: tuple[Any, ...], requests: int = 1) -> None:
        """As Connection.send. Raises Refusal `unavailable` if the command was not sent."""
        connection = self.connection
        connection.send(on_reply, command, requests)

    async def call(self, *command: Any) -> Reply:
        """As Connection.call. Raises Refusal `unavailable` if the command was not sent, Broken if that is unknown."""
        return await self.connection.call(*command)

    async def _keep(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                self._lost.clear()
                connection = await connect(self._where, self._name, self._on_lost)
                watching = asyncio.create_task(leave_moved(self._where, connection))
                try:
                    while not self._lost.is_set():
                        await self._offer(connection)
                        pause_s = FIRST_PAUSE_S
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(ASK_S):  # wait_for may swallow the cancellation of stop
                                await self._lost.wait()
                except Exception:
                    self._connection = None
                    raise
                finally:
                    watching.cancel()
                    if self._connection is None:  # else stop waits for requests in flight
                        connection.close()
            except (OSError, Broken) as error:
                log.warning("redis_unreachable", reason=find_reason(error))
            except UnfitRedis as unfit:
                if self._unfit != str(unfit):
                    log.error("redis_unfit", reason=str(unfit))
                self._unfit = str(unfit)
            self._connection = None
            self.fsynced = False
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311, no secret
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _offer(self, connection: Connection) -> None:
        """Serve requests with the connection while its server is fit.

        Raises Broken, and UnfitRedis after the requests in flight are answered.
        """
        fitness = await check_server(connection.call)
        if fitness.unfit is None:
            self._unfit = ""
            if not connection.lost:
                if self._connection is None:
                    Link.made += 1
                    self.generation = Link.made
                self._connection, self.history = connection, fitness.replication.history
                self.fsynced = fitness.is_fsynced(self._declared)
            return
        self._connection, self.fsynced = None, False
        await connection.call("PING")  # replies come in order, so this one is the last
        raise UnfitRedis(fitness.unfit)

    def _on_lost(self) -> None:
        self._connection = None
        self.fsynced = False
        self._lost.set()
