"""Connections to Redis that many requests share: link.py keeps the API's; workers and commands connect with it, too.

Commands of one turn of the event loop go out in one write, and replies come back in order. No command is sent twice: if
the connection breaks, its open requests get Broken.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
import structlog

from service.common.certificates import note_certificate
from service.common.redis_address import Host, RedisAddress, parse_redis_address
from service.engine.hot.cluster import Report, parse_report
from service.engine.hot.discovery import CONNECT_S, limit, locate, open_stream, read_slots

Reply = Any
OnReply = Callable[[Reply], None]

STALL_S = 2.0
"""A connection that receives nothing for so long while requests wait is closed."""
CONFIRM_S = 0.05
"""A delay before closing: if the event loop itself stalled, it reads received data first."""
ASK_S = 1.0
"""Between two questions where the primary is, and between two checks of a server that serves requests (link.py)."""
SUSPECT_S = 0.25
"""If no reply comes for so long while requests wait, sentinels are asked at once: was the primary replaced?"""

log = structlog.get_logger()


class Broken(Exception):
    """The connection broke after the request was sent: its outcome is unknown."""


class Connection(asyncio.Protocol):
    """One connection, without reconnecting.

    `on_reply` gets the reply, a hiredis error or Broken. Without an encoding replies have bytes instead of text.
    """

    def __init__(self, on_lost: Callable[[], None] | None = None, encoding: str | None = "utf-8") -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(encoding=encoding)
        self._waiting: deque[tuple[OnReply, int]] = deque()
        self.waiting = 0
        """Requests in flight, and those that go out at the end of this turn."""
        self._unsent: list[bytes] = []
        self._before_flush: list[Callable[[], None]] = []
        self._flushes = False
        self._transport: asyncio.Transport | None = None
        self._on_lost = on_lost
        self._came = self._came_before = 0
        self._waited_before = self._suspected = False
        self._watch: asyncio.TimerHandle | None = None
        self.lost = False
        self.host: Host | None = None
        """The server; None for a socket."""
        self.is_tls = False

    def take_over(self, stream: asyncio.StreamWriter) -> None:
        """Go on with the socket of an open stream."""
        self._stream = stream  # it closes the socket when it is collected
        stream.transport.set_protocol(self)
        self.connection_made(stream.transport)

    @property
    def calls(self) -> int:
        """Commands in flight."""
        return len(self._waiting)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._watch = self._loop.call_later(STALL_S, self._look)

    def data_received(self, data: bytes) -> None:
        self._came += 1
        self._reader.feed(data)
        gets, waiting = self._reader.gets, self._waiting
        while (reply := gets()) is not False:
            on_reply, requests = waiting.popleft()
            self.waiting -= requests
            on_reply(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._watch:
            self._watch.cancel()
        self._unsent.clear()
        waiting, self._waiting = self._waiting, deque()
        for on_reply, requests in waiting:
            self.waiting -= requests
            on_reply(Broken())
        if self._on_lost:
            self._on_lost()

    def send(self, on_reply: OnReply, command: tuple[Any, ...], requests: int = 1) -> None:
        """Send a command of so many requests at the end of this turn of the loop. The connection must not be `lost`."""
        self._unsent.append(hiredis.pack_command(command))
        self._waiting.append((on_reply, requests))
        self.waiting += requests
        if not self._flushes:
            self._flush_soon()

    def before_flush(self, add: Callable[[], None]) -> None:
        """Call a function at the end of this turn: what it sends goes out in the same write."""
        self._before_flush.append(add)
        if not self._flushes:
            self._flush_soon()

    def call(self, *command: Any) -> "asyncio.Future[Reply]":
        """As send, for awaiting. Raises Broken; returns hiredis's errors as replies."""
        future: asyncio.Future[Reply] = self._loop.create_future()
        if self.lost:
            future.set_exception(Broken())
            return future

        def answer(reply: Reply) -> None:
            if not future.done():
                if isinstance(reply, Broken):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)

        self.send(answer, command)
        return future

    def call_each(self, commands: Sequence[tuple[Any, ...]]) -> "asyncio.Future[list[Reply]]":
        """As call, for many commands: one future with their replies in order. Raises Broken if one has no reply."""
        future: asyncio.Future[list[Reply]] = self._loop.create_future()
        replies: list[Reply] = []

        def answer(reply: Reply) -> None:
            replies.append(reply)
            if len(replies) == len(commands) and not future.done():
                if any(isinstance(one, Broken) for one in replies):
                    future.set_exception(Broken())
                else:
                    future.set_result(replies)

        if self.lost:
            future.set_exception(Broken())
        elif not commands:
            future.set_result(replies)
        else:
            for command in commands:
                self.send(answer, command)
        return future

    async def is_silent(self, seconds: float) -> bool:
        """Wait so long, and return whether requests waited all the time and no reply came."""
        came, waited = self._came, bool(self._waiting)
        await asyncio.sleep(seconds)
        return waited and self._came == came

    def close(self) -> None:
        """Close at once; requests in flight get Broken."""
        if self._transport:
            self._transport.abort()

    def _flush_soon(self) -> None:
        self._flushes = True
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        while self._before_flush:
            self._before_flush.pop(0)()
        self._flushes = False
        if self._unsent and self._transport:
            data = b"".join(self._unsent)
            self._unsent.clear()
            self._transport.write(data)

    def _look(self) -> None:
        waits = bool(self._waiting)
        stalled = waits and self._waited_before and self._came == self._came_before
        if stalled and self._suspected:
            log.warning("redis_stalled", waiting=self.waiting)
            self.close()
            return
        self._waited_before, self._suspected, self._came_before = waits, stalled, self._came
        self._watch = self._loop.call_later(CONFIRM_S if stalled else STALL_S, self._look)


async def connect(
    where: str | RedisAddress,
    name: str,
    on_lost: Callable[[], None] | None = None,
    encoding: str | None = "utf-8",
    *,
    partition: int = 0,
) -> Connection:
    """Connect, authenticate and select the database. Raises OSError or TimeoutError on failure. `where` is a URL or an
    address; of a cluster, the node that has the partition.

    Each call reads the password's file, asks the sentinels or the cluster, and resolves the server's name again.
    """
    address = _parse(where)
    async with limit(CONNECT_S):
        host = await locate(address, partition)
        stream = await open_stream(address, host, name)
    note_certificate("redis", stream)
    connection = Connection(on_lost, encoding)
    connection.take_over(stream)
    connection.host, connection.is_tls = host, address.is_tls
    return connection


async def ask_report(connection: Connection) -> Report | None:
    """What a connection's server reports of its cluster; None if it refuses, or has none. Raises Broken."""
    reply = await connection.call("CLUSTER", "NODES")
    return parse_report(connection.is_tls, connection.host, reply) if connection.host else None


def _parse(where: str | RedisAddress) -> RedisAddress:
    return parse_redis_address(where) if isinstance(where, str) else where


async def leave_moved(where: str | RedisAddress, connection: Connection) -> None:
    """Close the connection once sentinels name another primary, or a cluster's node has no slots; return at once
    without either. An old primary may not notice that it was replaced, and what it still decides is lost."""
    address = _parse(where)
    while (address.service or address.is_cluster) and not connection.lost:
        await _until_due(address, connection)
        with contextlib.suppress(OSError):  # no reply comes
            hosts = (await read_slots(address)).hosts if address.is_cluster else {await locate(address)}
            if connection.host not in hosts:
                log.warning("redis_moved", waiting=connection.waiting)
                connection.close()


async def _until_due(address: RedisAddress, connection: Connection) -> None:
    """Wait until it is time to ask where the primary is. Sentinels are asked sooner while it is silent."""
    if address.is_cluster:
        await asyncio.sleep(ASK_S - time.monotonic() % ASK_S)  # at the same moment as others, which share the answer
        return
    for _ in range(round(ASK_S / SUSPECT_S)):
        if await connection.is_silent(SUSPECT_S):
            return
