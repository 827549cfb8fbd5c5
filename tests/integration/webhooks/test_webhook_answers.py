"""A sender reads any answer of a receiver within bounds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress

import pytest

from service.server.webhooks import public_http as webhook_http
from service.server.webhooks.public_http import Posted, Poster
from tests.harness.waiting import PATIENCE_S

NO_HTTP, BROKEN, TOO_LONG = "its answer is not HTTP", "the connection broke", "its answer is too long"
OK = b"HTTP/1.1 200 OK\r\n"
ENDLESS = b"Content-Length: 1000000000\r\n\r\n"


class _Server:
    """Answers each request with the same bytes, and keeps the connection open if there are any."""

    def __init__(self, answer: bytes) -> None:
        self._answer, self.connections, self.url = answer, 0, ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["_Server"]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(OSError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n{}") and self._answer:
                writer.write(self._answer)
                await writer.drain()
        writer.close()


@pytest.mark.parametrize(
    ("answer", "posted", "connections"),
    [
        (OK + b"Content-Length: 2\r\n\r\nok", Posted(200, body=b"ok"), 1),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Posted(200, body=b"ok"), 1),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n", Posted(204), 1),
        (b"HTTP/1.1 503 No\r\nRetry-After: 600\r\nContent-Length: 0\r\n\r\n", Posted(503, None, 600), 1),
        (b"HTTP/1.1 503 No\r\nRetry-After: 60000000000\r\nContent-Length: 0\r\n\r\n", Posted(503), 1),
        (b"HTTP/1.1 503 No\r\nRetry-After: \xc2\xb2\r\nContent-Length: 0\r\n\r\n", Posted(503), 1),
        (OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n", Posted(200), 2),
        (OK + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok", Posted(200, body=b"ok"), 1),
        (OK + ENDLESS, Posted(200), 2),
        (OK + ENDLESS + b"never whole", Posted(200, body=b"never whole"), 2),
        (OK + b"Content-Length: 1000000\r\n\r\n" + b"x" * 1_000_000, Posted(200, body=b"x" * 1_025), 2),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nnonsense", Posted(None, NO_HTTP), 2),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", Posted(101), 2),
        (OK + b"X: y\r\n" * 100_000, Posted(None, NO_HTTP), 2),
        (OK + b"X: " + b"y" * 100_000, Posted(None, NO_HTTP), 2),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000, Posted(None, TOO_LONG), 2),
        (b"nonsense\r\n\r\n", Posted(None, NO_HTTP), 2),
        (b"", Posted(None, BROKEN), 2),
    ],
    ids=range(18),
)
async def test_any_answer(answer: bytes, posted: Posted, connections: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The status counts, and the body's first bytes are kept; a connection is used again if its response ended within
    the bounds."""
    monkeypatch.setattr(webhook_http, "BODY_S", 0.2)
    async with _Server(answer).listening() as server, aclosing(Poster(to_loopback=True)) as poster:
        assert [await poster.post(1, server.url, {}, b"{}") for _ in range(2)] == [posted, posted]
        assert server.connections == connections


@pytest.mark.parametrize("answer", [OK, b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_no_whole_head(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver whose answer does not begin in time is given up."""
    monkeypatch.setattr(webhook_http, "RESPONSE_S", 0.2)
    async with _Server(answer).listening() as server, aclosing(Poster(to_loopback=True)) as poster:
        async with asyncio.timeout(PATIENCE_S):
            assert await poster.post(1, server.url, {}, b"{}") == Posted(None, "no answer within 15 s")


@pytest.mark.parametrize("head", [b"HTTP/1.1 100 Continue\r\n\r\n", OK + b"Content-Length: 0\r\n\r\n"])
async def test_heads_without_an_end(head: bytes) -> None:
    """A receiver that sends heads again and again, before or after its answer, is not listened to: else it would keep
    the worker busy, which also records, and fill its memory."""
    sent = 0
    has_ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        with suppress(OSError):
            while True:
                writer.write(head * 100)
                await writer.drain()
                sent += 100
        has_ended.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with asyncio.timeout(PATIENCE_S), aclosing(Poster(to_loopback=True)) as poster:
            posted = await poster.post(1, url, {}, b"{}")
            assert posted == (Posted(None, TOO_LONG) if b"100" in head else Posted(200))
            await has_ended.wait()
    assert sent * len(head) < 16 << 20  # most of it was in the system's buffers
