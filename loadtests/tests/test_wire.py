"""The HTTP client of loads, against a server that answers in a way of its own."""

import asyncio

import pytest

from loadtests import plan
from loadtests.wire import Ask, Wire
from tests.harness.waiting import PATIENCE_S

PIECES = (b"code,status\r\n", b"A,available\r\n\r\n0\r\n\r\n")


async def test_an_answer_in_chunks_ends_with_its_last_chunk() -> None:
    """An answer without a length, as an export is, ends with its last chunk: the connection stays open for the next."""
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*PIECES, b""))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1 << 16):
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    wire = Wire(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "key")
    try:
        async with asyncio.timeout(PATIENCE_S):
            answers = [await wire.ask(Ask("GET", "/v1/audit.csv")) for _ in range(2)]
    finally:
        wire.close()
        server.close()
    assert [answer.content for answer in answers] == [b"".join(PIECES)] * 2


async def test_a_new_workspace_may_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """A load waits for a workspace that is not in Redis yet, but not for a service that stays closed."""
    left = 1

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        while head := await reader.read(1 << 16):
            status = b"503" if left else b"404" if head.startswith(b"POST") else b"200"
            left = max(0, left - 1)
            writer.write(b"HTTP/1.1 " + status + b" -\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await plan.check_key(url, "key")
        left = 9
        monkeypatch.setattr(plan, "NEW_S", 0)
        with pytest.raises(RuntimeError, match="503"):
            await plan.check_key(url, "key")
