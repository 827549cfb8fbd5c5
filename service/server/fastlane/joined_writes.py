"""Join the writes of a response's head and body (10 of 130 µs), and hold back data that is not read yet:
bounded_protocol.py wraps each transport in this."""

import asyncio
from collections.abc import Callable
from typing import Any


class JoiningTransport:
    """A transport that joins the writes of one turn of the event loop. `close` calls `on_close`."""

    __slots__ = ("_call_soon", "_on_close", "_transport", "is_held", "parts")

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, on_close: Callable[[], None]
    ) -> None:
        self._transport, self._call_soon, self._on_close = transport, loop.call_soon, on_close
        self.parts: list[bytes] = []
        """What is to be written at the end of this turn."""
        self.is_held = False
        """Whether reading stays paused, also when a handler reads the body: the protocol has enough to process."""

    def resume_reading(self) -> None:
        if not self.is_held:
            self._transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Write at the end of this turn."""
        if not self.parts:
            self._call_soon(self.flush)
        self.parts.append(data)

    def flush(self) -> None:
        if self.parts:
            data = b"".join(self.parts)
            self.parts.clear()
            if not self._transport.is_closing():
                self._transport.write(data)

    def close(self) -> None:
        """Write what is left, then close."""
        self.flush()
        self._on_close()

    def forget(self) -> None:
        """The connection has ended. Without this, its protocol would wait for the collector of garbage, whose rounds
        keep the loop busy for up to 17 ms."""
        self._on_close = self._transport.close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
