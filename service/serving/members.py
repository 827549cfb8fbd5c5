"""One of several API processes. It does not listen; its supervisor passes accepted connections through a channel."""

import asyncio
import contextlib
import gc
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from prometheus_client import GC_COLLECTOR, PROCESS_COLLECTOR, REGISTRY
from uvicorn.config import Config

from service.common import logs
from service.common.config import Settings
from service.common.tally import CPU_US, IN_FLIGHT, OPEN, Tally
from service.operations.accounting import answers
from service.serving.app import create_app
from service.serving.resource_usage import RequestsInFlight, ResourceUsage, count_in_flight
from service.serving.server import Server, make_server_config
from service.serving.supervisor import LEAVING, READY, STARTED, TAKEN

CHANNEL_CLOSE_TIMEOUT_S = 2.0
"""Time for the supervisor to close its end of the channel after LEAVING."""
MAX_RECEIVED_PER_TURN = 64
"""Connections received in one turn of the event loop."""


def serve(settings: Settings, channel_fd: int, tally_fd: int, block: int) -> None:
    """Serve connections from the channel until SIGTERM or the channel's end, then finish the requests in flight."""
    logs.configure(settings, f"api {block}")
    tally = Tally(settings.api_processes + 1, block, tally_fd)
    os.close(tally_fd)
    answers.share(tally)
    # The default collectors measure only the process that answers.
    REGISTRY.unregister(PROCESS_COLLECTOR)
    REGISTRY.unregister(GC_COLLECTOR)
    REGISTRY.register(ResourceUsage(tally))
    REGISTRY.register(RequestsInFlight(lambda: tally.total(IN_FLIGHT)))
    app = create_app(settings)

    def can_decide() -> bool:
        return app.state.context.can_decide

    member = MemberServer(make_server_config(settings, app=app), socket.socket(fileno=channel_fd), tally, can_decide)
    gc.freeze()
    member.run()


class CountedConnections(set[Any]):
    """uvicorn's set of open connections; the supervisor reads its size from the tally."""

    def __init__(self, cells: memoryview) -> None:
        super().__init__()
        self._cells = cells

    def add(self, connection: Any) -> None:
        super().add(connection)
        self._cells[OPEN] = len(self)

    def discard(self, connection: Any) -> None:
        super().discard(connection)
        self._cells[OPEN] = len(self)


class MemberServer(Server):
    """The server, with connections from a channel instead of a listening socket.

    1. Send STARTED when the application has started, and READY once it can decide.
    2. Receive connections, and send TAKEN for each.
    3. To stop, send LEAVING, receive the connections that are still in the channel, then drain as uvicorn does.
    """

    def __init__(self, config: Config, channel: socket.socket, tally: Tally, can_decide: Callable[[], bool]) -> None:
        super().__init__(config)
        self._channel, self._cells, self._can_decide = channel, tally.own, can_decide
        self._cpu_before_us = self._cells[CPU_US]
        self._connecting: set[asyncio.Task[None]] = set()
        self._is_channel_closed = asyncio.Event()
        self._is_ready_sent = False
        self.server_state.connections = CountedConnections(self._cells)
        channel.setblocking(False)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        if not self.started:
            return
        self._channel.send(STARTED)
        asyncio.get_running_loop().add_reader(self._channel, self._receive_connections)

    async def on_tick(self, counter: int) -> bool:
        """Update the CPU time, each second the requests in flight, and announce readiness; uvicorn calls it ten times
        a second."""
        self._record_cpu_time()
        if counter % 10 == 0:
            self._cells[IN_FLIGHT] = count_in_flight(self.server_state.connections)
        if not self._is_ready_sent and not self.should_exit and self._can_decide():
            self._is_ready_sent = True
            self._channel.send(READY)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Leave the supervisor, receive the connections in the channel, and drain."""
        try:
            self._channel.send(LEAVING)
            self._channel.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(CHANNEL_CLOSE_TIMEOUT_S):
                await self._is_channel_closed.wait()
        except OSError:  # the supervisor has ended, or hangs
            asyncio.get_running_loop().remove_reader(self._channel)
        await asyncio.gather(*self._connecting)
        await super().shutdown(sockets)
        self._record_cpu_time()

    def _record_cpu_time(self) -> None:
        self._cells[CPU_US] = self._cpu_before_us + time.process_time_ns() // 1000

    def _receive_connections(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(MAX_RECEIVED_PER_TURN):
            try:
                data, descriptors, _, _ = socket.recv_fds(self._channel, 1, 1)
            except BlockingIOError:
                break
            except OSError:
                data, descriptors = b"", []
            if not data:
                loop.remove_reader(self._channel)
                self._is_channel_closed.set()
                self.should_exit = True
                break
            with contextlib.suppress(OSError):  # after LEAVING, this half of the channel is closed
                self._channel.send(TAKEN)
            for descriptor in descriptors:
                task = loop.create_task(self._connect(socket.socket(fileno=descriptor)))
                self._connecting.add(task)
                task.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._make_protocol, connection)
        except OSError:  # the client has disconnected
            connection.close()

    def _make_protocol(self) -> asyncio.Protocol:
        protocol_class: Any = self.config.http_protocol_class
        return protocol_class(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
