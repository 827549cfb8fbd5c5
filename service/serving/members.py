"""One of several API processes: it listens nowhere, its supervisor hands it connections."""

import asyncio
import contextlib
import gc
import os
import socket
import time
from collections.abc import Callable
from typing import Any

import uvicorn
from prometheus_client import GC_COLLECTOR, PROCESS_COLLECTOR, REGISTRY
from uvicorn.config import Config

from service.common import logs
from service.common.config import Settings
from service.common.tally import CPU_US, OPEN, Tally
from service.operations.accounting import answers
from service.serving.app import create_app
from service.serving.resource_usage import Spending
from service.serving.server import server_config
from service.serving.supervisor import LEAVING, READY, STARTED, TAKEN

LEAVE_S = 2.0
"""For the supervisor to say that no more connections come."""
TAKES = 64
"""Connections in one turn of the loop."""


def serve(settings: Settings, channel_fd: int, tally_fd: int, block: int) -> None:
    """Serve what comes through the channel until SIGTERM, or the channel's end; answers in flight go out."""
    logs.configure(settings, f"api {block}")
    tally = Tally(settings.api_processes + 1, block, tally_fd)
    os.close(tally_fd)
    answers.share(tally)
    # These would be of the one process that answers.
    REGISTRY.unregister(PROCESS_COLLECTOR)
    REGISTRY.unregister(GC_COLLECTOR)
    REGISTRY.register(Spending(tally))
    app = create_app(settings)

    def able() -> bool:
        context = app.state.context
        return context.decider.link.connected and bool(context.open_partitions)

    member = Member(server_config(settings, app=app), socket.socket(fileno=channel_fd), tally, able)
    gc.freeze()
    member.run()


class Connections(set[Any]):
    """uvicorn's open connections; the supervisor sees at once how many they are."""

    def __init__(self, cells: memoryview) -> None:
        super().__init__()
        self._cells = cells

    def add(self, connection: Any) -> None:
        """As a set's."""
        super().add(connection)
        self._cells[OPEN] = len(self)

    def discard(self, connection: Any) -> None:
        """As a set's."""
        super().discard(connection)
        self._cells[OPEN] = len(self)


class Member(uvicorn.Server):
    """uvicorn's server with connections from a channel.

    1. Once the application has started, say so, and again once it can decide.
    2. Take connections as they come.
    3. To end: say that no more are wanted, take those that were already sent, and go on as uvicorn does.
    """

    def __init__(self, config: Config, channel: socket.socket, tally: Tally, able: Callable[[], bool]) -> None:
        super().__init__(config)
        self._channel, self._cells, self._able = channel, tally.own, able
        self._cpu_before_us = self._cells[CPU_US]
        self._coming: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self._told = False
        self.server_state.connections = Connections(self._cells)
        channel.setblocking(False)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application; as uvicorn's."""
        await super().startup(sockets=[])
        self._channel.send(STARTED)
        asyncio.get_running_loop().add_reader(self._channel, self._take)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; as uvicorn's."""
        self._spent()
        if not self._told and not self.should_exit and self._able():
            self._told = True
            self._channel.send(READY)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take what was sent already, and drain; as uvicorn's."""
        try:
            self._channel.send(LEAVING)
            self._channel.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(LEAVE_S):
                await self._over.wait()
        except OSError:  # the supervisor is gone, or stuck
            asyncio.get_running_loop().remove_reader(self._channel)
        await asyncio.gather(*self._coming)
        await super().shutdown(sockets)
        self._spent()

    def _spent(self) -> None:
        self._cells[CPU_US] = self._cpu_before_us + time.process_time_ns() // 1000

    def _take(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(TAKES):
            try:
                said, descriptors, _, _ = socket.recv_fds(self._channel, 1, 1)
            except BlockingIOError:
                break
            except OSError:
                said, descriptors = b"", []
            if not said:
                loop.remove_reader(self._channel)
                self._over.set()
                self.should_exit = True
                break
            with contextlib.suppress(OSError):  # no longer asked for
                self._channel.send(TAKEN)
            for descriptor in descriptors:
                task = loop.create_task(self._connect(socket.socket(fileno=descriptor)))
                self._coming.add(task)
                task.add_done_callback(self._coming.discard)

    async def _connect(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        except OSError:  # the client has gone
            connection.close()

    def _protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
