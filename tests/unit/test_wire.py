"""The HTTP client of loads, against a server that answers in a way of its own."""

import asyncio

from loadtests.wire import Ask, Wire
from tests.waiting import PATIENCE_S

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
