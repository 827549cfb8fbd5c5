"""One address before a server: what passes may be held, delayed, cut short, or its replies lost."""

import asyncio
from pathlib import Path
from typing import Self

from tests.harness.servers import free_port

Target = int | Path
"""A port of this machine, or a Unix socket."""


class Forwarder:
    """One address; what connects is passed on to where it points."""

    def __init__(self, target: Target) -> None:
        self.port = free_port()
        self._target = target
        self._requests, self._replies = asyncio.Event(), asyncio.Event()
        self.flow()
        self.delay_s = 0.0
        """How late replies are."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> Self:
        self._server = await asyncio.start_server(self._passed, "127.0.0.1", self.port)
        return self

    def stop(self) -> None:
        """Listen no more, and cut."""
        if self._server:
            self._server.close()
        self.cut()

    def point(self, target: Target) -> None:
        """Where connections go from now on."""
        self._target = target

    def hold(self) -> None:
        """Let nothing through until `flow`; connections stay open."""
        self._requests.clear()
        self._replies.clear()

    def hold_replies(self) -> None:
        """Let requests through, and no reply; those that are held when the connection is cut are lost."""
        self._replies.clear()

    def flow(self) -> None:
        self._requests.set()
        self._replies.set()

    def cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _passed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            there, back = await self._connect()
            self._writers.add(back)
            try:
                await asyncio.gather(self._pass(reader, back, self._requests), self._pass(there, writer, self._replies))
            finally:
                self._writers.discard(back)
                back.transport.abort()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, Path):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection("127.0.0.1", self._target)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event) -> None:
        while data := await reader.read(65536):
            await flowing.wait()
            if self.delay_s and flowing is self._replies:
                await asyncio.sleep(self.delay_s)
            if writer.is_closing():
                break  # cut meanwhile: what was held is lost
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError
