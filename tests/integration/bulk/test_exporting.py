"""Sending a file: complete, or visibly cut off; a client that is gone or stalled frees its slot."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
import uvicorn
from litestar import Litestar, Request, Response, get

from service.engine.domain.errors import Refusal
from service.server.api import csv_stream, problems
from service.server.api.bulk import MAX_EXPORTS, Bulk
from service.server.api.csv_stream import CsvFile
from service.server.api.request_middleware import around
from service.server.fastlane.protocol import Protocol
from tests.harness.waiting import PATIENCE_S, wait_until

PIECE = b"x" * 99_998 + b"\r\n"


class Source:
    """A file in pieces, and counters of how it was read."""

    def __init__(self) -> None:
        self.bulk = Bulk()
        self.slots = self.bulk.exports
        self.workspace = 0
        self.sent, self.ended, self.fails_at, self.length = 0, 0, -1, 200
        self.error: Exception = RuntimeError("broken")

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            for number in range(self.length):
                if number == self.fails_at:
                    raise self.error
                self.sent += 1
                yield PIECE
        finally:
            self.ended += 1


@pytest.fixture
def source() -> Source:
    return Source()


@pytest_asyncio.fixture
async def port(source: Source) -> AsyncIterator[int]:
    @get("/file", media_type="text/csv")
    async def file(request: Request[Any, Any, Any]) -> Response[str]:
        source.workspace += 1
        return CsvFile(source.bulk, source.workspace, source.pieces(), "file.csv", {"Scrip-Lag-Seconds": "3"})

    app = Litestar([file], exception_handlers=problems.HANDLERS, logging_config=None)
    config = uvicorn.Config(
        around(app), host="127.0.0.1", port=0, http=Protocol, log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    await wait_until(lambda: server.started)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await serving


async def _asleep(port: int) -> socket.socket:
    """A client that requests the file and reads nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", port))
    await loop.sock_sendall(client, b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n")
    return client


async def _file(port: int) -> httpx.Response:
    async with httpx.AsyncClient(verify=False, timeout=PATIENCE_S) as client:
        return await client.get(f"http://127.0.0.1:{port}/file")


async def test_a_whole_file(source: Source, port: int) -> None:
    """A response has the whole file, its name, its type and its other headers."""
    answer = await _file(port)
    assert answer.status_code == 200
    assert answer.content == PIECE * source.length
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="file.csv"'
    assert answer.headers["Scrip-Lag-Seconds"] == "3"
    assert (source.slots.running, source.ended) == (0, 1)


async def test_an_error_at_first(source: Source, port: int) -> None:
    """A failure before the first byte is a problem."""
    source.fails_at = 0
    assert (await _file(port)).json()["code"] == "internal"
    source.error = Refusal("unavailable", retry_after_ms=1000)
    answer = await _file(port)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert source.slots.running == 0


@pytest.mark.parametrize("error", [RuntimeError("broken"), Refusal("unavailable"), TimeoutError()], ids=repr)
async def test_an_error_later(source: Source, port: int, error: Exception) -> None:
    """A failure after the first bytes closes the connection, so the client sees an incomplete response."""
    source.fails_at, source.error = 3, error
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
        await _file(port)
    assert (source.slots.running, source.ended) == (0, 1)


async def test_clients_that_go_away(source: Source, port: int) -> None:
    """Beyond MAX_EXPORTS files at once a request is refused until a client leaves."""
    source.length = 1000
    clients = [await _asleep(port) for _ in range(MAX_EXPORTS)]
    await wait_until(lambda: source.slots.running == MAX_EXPORTS and source.sent >= MAX_EXPORTS)
    refused = await _file(port)
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert int(refused.headers["Retry-After"]) >= 2
    assert source.ended == 0
    assert source.sent < source.length
    clients.pop().close()
    await wait_until(lambda: source.slots.running == MAX_EXPORTS - 1)
    assert source.sent < source.length
    source.length = 5
    assert (await _file(port)).content == PIECE * 5
    for client in clients:
        client.close()
    await wait_until(lambda: source.slots.running == 0)
    assert source.ended == MAX_EXPORTS + 1


async def test_a_client_asleep(source: Source, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection of a client that reads nothing for STALLED_S is closed without the end of the file."""
    monkeypatch.setattr(csv_stream, "STALLED_S", 0.3)
    source.length = 1000
    client = await _asleep(port)
    await wait_until(lambda: source.slots.running == 1)
    await wait_until(lambda: source.slots.running == 0)
    assert source.ended == 1
    assert source.sent < source.length
    taken, loop = bytearray(), asyncio.get_running_loop()
    while part := await loop.sock_recv(client, 1 << 20):
        taken += part
    assert not taken.endswith(b"0\r\n\r\n")
    client.close()
