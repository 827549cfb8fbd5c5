"""The HTTP client of every load: it opens its connections, and can send many requests before it reads a response."""

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

ANSWER_S, REPEAT_S = 60.0, 10.0
IDLE_S = 2.0
"""Well below the 5 s after which a server may close an idle connection."""
ERRORS = (OSError, EOFError, asyncio.LimitOverrunError, ValueError)
"""A connection that ended, or a response that is not HTTP."""
_DISCARD = struct.pack("ii", 1, 0)
"""Else the system goes on to send what is buffered, some MiB, after the end of the process."""


class Ask(NamedTuple):
    """A request; `key` is its Idempotency-Key, `headers` are lines that each end with CRLF."""

    method: str
    path: str
    body: dict[str, Any] | None = None
    key: str = ""
    headers: str = ""


@dataclass(frozen=True)
class Answer:
    """A complete response; header names are in lower case."""

    status: int
    headers: dict[str, str]
    content: bytes

    @cached_property
    def body(self) -> Any:
        """The JSON; None if the body is empty. ValueError if it is not JSON."""
        return json.loads(self.content) if self.content else None

    @property
    def label(self) -> str:
        """The label by which responses are counted: `201`, `201 replayed`, `409 coupon_exhausted`."""
        if self.status >= 400:
            return f"{self.status} {self.body['code']}"
        return f"{self.status} replayed" if "idempotency-replayed" in self.headers else str(self.status)


class Wire:
    """One connection, opened when it is first needed; requests on it are answered in turn."""

    def __init__(self, url: str, api_key: str, address: str = "") -> None:
        """`address` is the client's, as a trusted proxy sends it."""
        parts = urlsplit(url)
        self._tls = True if parts.scheme == "https" else None
        self._at = parts.hostname or "127.0.0.1", parts.port or (443 if self._tls else 80)
        forwarded = f"X-Forwarded-For: {address}\r\n" if address else ""
        self._headers = (
            f"Host: {self._at[0]}\r\nAuthorization: Bearer {api_key}\r\nContent-Type: application/json\r\n{forwarded}"
        )
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.used_at = time.monotonic()

    def pack(self, ask: Ask) -> bytes:
        body = b"" if ask.body is None else json.dumps(ask.body).encode()
        key = f"Idempotency-Key: {ask.key}\r\n" if ask.key else ""
        head = (
            f"{ask.method} {ask.path} HTTP/1.1\r\n{self._headers}{ask.headers}{key}Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    async def send(self, data: bytes) -> None:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._at, ssl=self._tls)
        self._streams[1].write(data)
        await self._streams[1].drain()

    async def answer(self) -> Answer:
        """Read the next response; skip `100 Continue`."""
        assert self._streams
        reader = self._streams[0]
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        named = [line.partition(":") for line in lines if line]
        headers = {name.lower(): value.strip() for name, _, value in named}
        status = int(first.split(" ")[1])
        if status == 100:
            return await self.answer()
        if "content-length" in headers or status in (204, 304):
            content = await reader.readexactly(int(headers.get("content-length", "0")))
        elif headers.get("transfer-encoding") == "chunked":
            content = b"".join([piece async for piece in _read_chunks(reader)])
        else:
            content = await reader.read(-1)
        self.used_at = time.monotonic()
        return Answer(status, headers, content)

    async def ask(self, ask: Ask) -> Answer:
        """Send one request and read its response."""
        await self.send(self.pack(ask))
        return await self.answer()

    def abort(self) -> None:
        """Reset the connection, and discard what is not sent."""
        if self._streams:
            transport = self._streams[1].transport
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DISCARD)
            transport.abort()

    def close(self) -> None:
        if self._streams:
            self._streams[1].close()


async def _read_chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield the pieces of a body without a length, as an export is; the last, of no bytes, ends it."""
    size = -1
    while size:
        size = int(await reader.readuntil(b"\r\n"), 16)
        yield (await reader.readexactly(size + 2))[:size]


class Barrage:
    """Some hundreds of connections to one service, opened when they are needed."""

    def __init__(self, url: str, api_key: str, patience_s: float = ANSWER_S) -> None:
        self._to, self._patience_s = (url, api_key), patience_s
        self._free: list[Wire] = []

    async def fire(self, asks: Sequence[Ask]) -> list[Answer]:
        """Send all; the responses in the requests' order. The last bytes of several requests are sent together, once
        all other bytes are sent. TimeoutError if a response takes too long."""
        wires, free = [self._take() for _ in asks], self._free
        try:
            async with asyncio.timeout(self._patience_s):
                packed = [wire.pack(ask) for wire, ask in zip(wires, asks, strict=True)]
                held = 1 if len(asks) > 1 else 0
                await asyncio.gather(
                    *(wire.send(data[: len(data) - held]) for wire, data in zip(wires, packed, strict=True))
                )
                if held:
                    await asyncio.gather(*(wire.send(data[-1:]) for wire, data in zip(wires, packed, strict=True)))
                answers = await asyncio.gather(*(wire.answer() for wire in wires))
        except BaseException:
            for wire in wires:
                wire.close()
            raise
        for wire, answer in zip(wires, answers, strict=True):
            if answer.headers.get("connection") == "close":
                wire.close()
            else:
                free.append(wire)
        return answers

    async def ask(self, ask: Ask) -> Answer:
        """Send one request; others may be in flight."""
        return (await self.fire([ask]))[0]

    async def one(self, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
        """Send one request, which must succeed. A read is repeated after a 503, as a client would, for some seconds."""
        ends = time.monotonic() + (REPEAT_S if method == "GET" else 0)
        answer = await self.ask(Ask(method, path, body))
        while answer.status == 503 and time.monotonic() < ends:
            await asyncio.sleep(0.2)
            answer = await self.ask(Ask(method, path, body))
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.content.decode(errors='replace')[:500]}")
        return answer

    def move(self, url: str) -> None:
        """Open connections to this address from now on; requests in flight keep theirs."""
        self._to = (url, self._to[1])
        self.close()
        self._free = []

    def close(self) -> None:
        """Close all idle connections."""
        for wire in self._free:
            wire.close()
        self._free.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self) -> Wire:
        """The connection that was used last; a new one if that is too long ago."""
        if self._free and time.monotonic() - self._free[-1].used_at > IDLE_S:
            self.close()
        return self._free.pop() if self._free else Wire(*self._to)
