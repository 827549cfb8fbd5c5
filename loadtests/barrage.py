"""Requests that are all on their way before the first answer is read, each on a connection of its own."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

ANSWER_S = 60.0
IDLE_S = 2.0
"""Well below the 5 s after which a server may end a connection that nobody uses."""


class Ask(NamedTuple):
    """A request; `key` is its Idempotency-Key."""

    method: str
    path: str
    body: dict[str, Any] | None = None
    key: str = ""


@dataclass(frozen=True)
class Answer:
    """A whole answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    content: bytes
    body: Any = field(repr=False)

    @property
    def label(self) -> str:
        """What answers are counted by: `201`, `201 replayed`, `409 coupon_exhausted`."""
        if self.status >= 400:
            return f"{self.status} {self.body['code']}"
        return f"{self.status} replayed" if "idempotency-replayed" in self.headers else str(self.status)


class Barrage:
    """Some hundreds of connections to one service, opened when they are needed."""

    def __init__(self, url: str, api_key: str) -> None:
        parts = urlsplit(url)
        self._tls = True if parts.scheme == "https" else None
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or (443 if self._tls else 80)
        self._headers = f"Host: {self._host}\r\nAuthorization: Bearer {api_key}\r\nContent-Type: application/json\r\n"
        self._links: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._used_at = 0.0

    async def fire(self, asks: Sequence[Ask]) -> list[Answer]:
        """The answers, in the requests' order; TimeoutError where one takes more than a minute."""
        await self._open(len(asks))
        for (_, writer), ask in zip(self._links, asks, strict=False):
            writer.write(self._packed(ask))
        async with asyncio.timeout(ANSWER_S):
            answers = await asyncio.gather(*(_read(reader) for reader, _ in self._links[: len(asks)]))
        self._used_at = time.monotonic()
        return answers

    async def one(self, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
        """One request by itself, which must succeed."""
        (answer,) = await self.fire([Ask(method, path, body)])
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.content.decode(errors='replace')[:500]}")
        return answer

    def close(self) -> None:
        """End all connections."""
        for _, writer in self._links:
            writer.close()
        self._links.clear()

    async def _open(self, wanted: int) -> None:
        if time.monotonic() - self._used_at > IDLE_S:
            self.close()
        more = wanted - len(self._links)
        if more > 0:
            links = (asyncio.open_connection(self._host, self._port, ssl=self._tls) for _ in range(more))
            self._links += await asyncio.gather(*links)
            self._used_at = time.monotonic()

    def _packed(self, ask: Ask) -> bytes:
        body = b"" if ask.body is None else json.dumps(ask.body).encode()
        key = f"Idempotency-Key: {ask.key}\r\n" if ask.key else ""
        head = f"{ask.method} {ask.path} HTTP/1.1\r\n{self._headers}{key}Content-Length: {len(body)}\r\n\r\n"
        return head.encode() + body


async def _read(reader: asyncio.StreamReader) -> Answer:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    named = [line.partition(":") for line in lines if line]
    headers = {name.lower(): value.strip() for name, _, value in named}
    content = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answer(int(first.split(" ")[1]), headers, content, json.loads(content) if content else None)
