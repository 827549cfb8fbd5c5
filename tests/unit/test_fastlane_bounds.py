"""The bounds of a connection without a network: framing, sizes, patience, and the server's end."""

import re

import pytest

from service.fastlane import bounded_protocol
from service.fastlane.request_heads import MAX_HEAD_BYTES, MAX_HEADERS
from tests.unit.fastlane_fixtures import Client, request, statuses

_GET = b"GET /x HTTP/1.1\r\nHost: scrip\r\n"
_CHUNKED = b"POST /x HTTP/1.1\r\nHost: scrip\r\nTransfer-Encoding: chunked\r\n\r\n"
_AFTER = b"GET /smuggled HTTP/1.1\r\nHost: scrip\r\n\r\n"

_MALFORMED = (
    b"GET /x HTTP/1.1\nHost: scrip\n\n",
    b"GET /x HTTP/1.1\r\nHost: scrip\nA: b\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost: scrip\r\n\n",
    b"\nGET /x HTTP/1.1\r\nHost: scrip\r\n\r\n",
    b"GET /x HTTP/1.1\rHost: scrip\r\n\r\n",
    b"GET  /x HTTP/1.1\r\nHost: scrip\r\n\r\n",
    b"GET /x HTTP/1.1 \r\nHost: scrip\r\n\r\n",
    b" GET /x HTTP/1.1\r\nHost: scrip\r\n\r\n",
    b"GET /x\r\n\r\n",
    b"GET /\xe9 HTTP/1.1\r\nHost: scrip\r\n\r\n",
    b"GET /\x00 HTTP/1.1\r\nHost: scrip\r\n\r\n",
    b"GET /x HTTP/2.0\r\nHost: scrip\r\n\r\n",
    b"GET /x HTTP/1.2\r\nHost: scrip\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"NONSENSE /x HTTP/1.1\r\nHost: scrip\r\n\r\n",
    b"CONNECT scrip:80 HTTP/1.1\r\nHost: scrip\r\n\r\n",
    b"get /x HTTP/1.1\r\nHost: scrip\r\n\r\n",
    b"GET /x HTTP/1.1\r\n\r\n",
    _GET + b"Host: other\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost: a, b\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost: a/b\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost: a@b\r\n\r\n",
    _GET + b"A : b\r\n\r\n",
    _GET + b"A: b\r\n c\r\n\r\n",
    _GET + b"A: b\r\n\tc\r\n\r\n",
    b"GET /x HTTP/1.1\r\n Host: scrip\r\n\r\n",
    _GET + b": b\r\n\r\n",
    _GET + b"A\r\n\r\n",
    _GET + b"A\xe9: b\r\n\r\n",
    _GET + b"A: b\x00\r\n\r\n",
    _GET + b"A: b\x0bc\r\n\r\n",
    _GET + b"A: b\x7f\r\n\r\n",
    _GET + b"A: b\rc\r\n\r\n",
    _GET + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    _GET + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
    _GET + b"Content-Length: 1, 1\r\n\r\nx",
    _GET + b"Content-Length: +1\r\n\r\nx",
    _GET + b"Content-Length: -1\r\n\r\nx",
    _GET + b"Content-Length: 0x1\r\n\r\nx",
    _GET + b"Content-Length: 1 1\r\n\r\nx",
    _GET + b"Content-Length: \xb2\r\n\r\nx",
    _GET + b"Content-Length:\r\n\r\n",
    _GET + b"Content-Length: 99999999999999999999\r\n\r\n",
    _GET + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    _GET + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    _GET + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    _GET + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    _GET + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    _GET + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    _GET + b"Transfer-Encoding: identity\r\n\r\n",
    _GET + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    _GET + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    _GET + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    _GET + b"Transfer-Encoding:\r\n\r\n",
    _GET.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    _CHUNKED + b"1\nx\r\n0\r\n\r\n",
    _CHUNKED + b"1\r\nxy\r\n0\r\n\r\n",
    _CHUNKED + b"x\r\n\r\n",
    _CHUNKED + b"-1\r\nx\r\n0\r\n\r\n",
    _CHUNKED + b"0x1\r\nx\r\n0\r\n\r\n",
    _CHUNKED + b"ffffffffffffffffff\r\nx\r\n0\r\n\r\n",
)  # fmt: skip
_HOT = tuple(
    request(more=more)
    for more in (
        "Host: other\r\n", "Content-Length: 14\r\n", "Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding : chunked\r\n", "A: b\n", "A: b\r\n c\r\n", "A\r\n", "Idempotency-Key: a\nb\r\n",
        "A: \0\r\n",
    )
)  # fmt: skip


@pytest.mark.parametrize("sent", [*_MALFORMED, *_HOT], ids=range(len(_MALFORMED + _HOT)))
@pytest.mark.parametrize("before", [False, True], ids=["first", "second"])
async def test_framing(sent: bytes, before: bool) -> None:
    """What could be framed in two ways is 400, once, and ends the connection: what follows is no request."""
    client = Client()
    if before:  # a head of the same shape was good
        client.answer()
        client.answer(request(more="Idempotency-Key: a\r\n"))
    await client.ask(sent + _AFTER)
    assert statuses(client.wire.sent)[before * 2 :] == [400]
    assert b"\r\nconnection: close\r\n" in client.wire.sent
    assert b'"code":"malformed"' in client.wire.sent
    assert client.wire.eof
    assert client.passed == []
    client.send(_AFTER)
    assert len(client.decider.asked) == before * 2


@pytest.mark.parametrize("sent", [b"GET /x HTTP/1.1\nHost: scrip\n\n", b"GET /x HTTP/1.1\r\nA\n", b"\n", b"A\rB"])
async def test_lines_that_end_otherwise(sent: bytes) -> None:
    """A client that ends lines in another way hears so at once, byte by byte too."""
    whole, pieces = Client(), Client()
    whole.send(sent)
    for at in range(len(sent)):
        pieces.send(sent[at : at + 1])
    assert statuses(whole.wire.sent) == statuses(pieces.wire.sent) == [400]


_GOOD = (
    _GET + b"\r\n",
    b"\r\n\r\n" + _GET + b"\r\n",
    b"GET /x HTTP/1.0\r\n\r\n",
    b"GET http://scrip/x HTTP/1.1\r\nHost: scrip\r\n\r\n",
    _GET + b"A:\r\nB: \t \r\nC:d\r\nD: \xe9\r\n\r\n",
    _GET + b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    _GET + b"content-length: 007\r\n\r\n[2,3,4]",
    _CHUNKED + b"7;a=b\r\n[2,3,4]\r\n0\r\nHost: other\r\n\r\n",
)


@pytest.mark.parametrize("sent", _GOOD, ids=range(len(_GOOD)))
async def test_good_framing(sent: bytes) -> None:
    """What is merely unusual is answered."""
    client = Client()
    assert await client.ask(sent) == [200]
    assert [path for path, _ in client.passed] == [sent.strip().partition(b" ")[0].decode() + " /x"]


async def test_a_chunked_body_ends_the_connection() -> None:
    """It is answered with `Connection: close`, and what follows it is not read."""
    client = Client()
    client.send(_CHUNKED + b"7\r\n[2,3,4]\r\n0\r\n\r\n" + _AFTER)
    await client.ask(_AFTER)
    assert client.passed == [("POST /x", b"[2,3,4]")]
    assert client.protocol.scope["path"] == "/x"
    assert statuses(client.wire.sent) == [200]
    assert b"connection: close\r\n" in client.wire.sent
    assert client.wire.closed


async def test_trailers() -> None:
    """What comes after a chunked body is no header."""
    client = Client()
    client.send(_CHUNKED)
    await client.ask(b"7\r\n[2,3,4]\r\n0\r\nAuthorization: Bearer one\r\n\r\n")
    assert client.headers == [(b"host", b"scrip"), (b"transfer-encoding", b"chunked")]


async def test_large_heads() -> None:
    """A head past 16 KiB, or with more than 100 lines, is 431 as soon as that is known; a smaller one is not."""
    for fits, start in ((True, _GET), (False, _GET), (True, request()), (False, request())):
        name = b"A: " if start is _GET else b"\r\nA: "
        head = start if start is _GET else start.partition(b"\r\n\r\n")[0]
        body = b"" if start is _GET else b'{"userId":"u"}'
        room = MAX_HEAD_BYTES - len(head) - len(name) - 4 + (not fits)
        client = Client()
        await client.ask(head + name + b"x" * room + b"\r\n\r\n" + body)
        assert (statuses(client.wire.sent) == [431]) is not fits
    for lines in (MAX_HEADERS, MAX_HEADERS + 1):
        client = Client()
        assert await client.ask(_GET + b"A: b\r\n" * (lines - 1) + b"\r\n") == [200 if lines == MAX_HEADERS else 431]
    client = Client()
    for _ in range(MAX_HEAD_BYTES // 1024):
        client.send(b"GET /" + b"x" * 1019 if not client.protocol._early else b"x" * 1024)
    assert client.wire.sent == b""
    client.send(b"x")
    assert statuses(client.wire.sent) == [431]
    client.send(b"x" * 1_000_000)
    assert client.protocol._early == b""


_SLOW = {
    "head": (b"GET / HTTP/1.1\r\nHost:", bounded_protocol.HEAD_S),
    "hot head": (request()[:50], bounded_protocol.HEAD_S),
    "hot body": (request()[:-1], bounded_protocol.BODY_S),
    "body": (_GET + b"Content-Length: 9\r\n\r\n12345678", bounded_protocol.BODY_S),
    "chunks": (_CHUNKED + b"9\r\n12345678", bounded_protocol.BODY_S),
    "trailers": (_CHUNKED + b"1\r\n1\r\n0\r\nA: b\r\n", bounded_protocol.BODY_S),
}


@pytest.mark.parametrize("where", _SLOW)
async def test_slow_clients(where: str) -> None:
    """A request that doesn't come within its time is 408, and the connection ends; a byte a second doesn't help."""
    sent, limit_s = _SLOW[where]
    client = Client()
    client.send(sent)
    client.look(int(limit_s) - 1)
    assert client.wire.sent == b""
    client.send(b" ") if where == "head" else None
    client.look(1)
    assert statuses(await client.settle()) == [408]
    assert client.wire.eof
    client.look(int(bounded_protocol.LINGER_S))
    assert client.wire.aborted
    await client.settle()
    assert (client.decider.asked, client.passed) == ([], [])
    assert client.left == (where in {"body", "chunks", "trailers"})


async def test_a_long_upload() -> None:
    """One that goes on isn't cut off, however long it takes in all."""
    client = Client()
    piece = b"x" * bounded_protocol.PROGRESS_BYTES
    client.send(_GET + b"Content-Length: %d\r\n\r\n" % (len(piece) * 20))
    for _ in range(20):
        client.look(int(bounded_protocol.BODY_S) - 1)
        await client.ask(piece)
    assert statuses(client.wire.sent) == [200]


async def test_idle_connections() -> None:
    """One without a request is closed after its time, without a word; one whose answer is awaited never is."""
    client = Client()
    client.send(request())
    client.look(1000)
    assert not client.wire.closed
    client.decider.reply()
    sent = client.wire.sent
    client.look(client.protocol.timeout_keep_alive)
    assert (client.wire.closed, client.wire.sent) == (True, sent)


async def test_a_client_that_takes_nothing() -> None:
    """One that doesn't take its answer is cut off; one that takes some of it now and then is not."""
    client = Client()
    client.answer()
    for unsent in range(100, 0, -10):
        client.wire.unsent = unsent
        client.look(int(bounded_protocol.WRITE_S) - 1)
    assert not client.wire.closed
    client.look(int(bounded_protocol.WRITE_S))
    assert client.wire.aborted


async def test_too_many_connections() -> None:
    """One beyond the bound hears 503 with Retry-After and is closed."""
    client = Client(connections=0)
    assert statuses(client.wire.sent) == [503]
    assert re.search(rb"\r\nretry-after: \d+\r\n.*connection: close\r\n", client.wire.sent, re.DOTALL)
    client.send(request())
    assert client.decider.asked == []
    client.look(int(bounded_protocol.LINGER_S))
    assert client.wire.aborted


@pytest.mark.parametrize("whole", [request(), _GET + b"\r\n"], ids=["hot", "elsewhere"])
async def test_the_servers_end(whole: bytes) -> None:
    """What has begun is answered with `Connection: close`, whole; then the connection is closed."""
    for begun in (whole, whole[:-3], whole[:40]):
        client = Client()
        client.send(begun)
        client.protocol.shutdown()
        assert not client.wire.closed
        client.send(whole[len(begun) :])
        if client.decider.waiting:
            client.decider.reply()
        await client.settle()
        assert statuses(client.wire.sent) == [201 if whole == request() else 200]
        assert b"connection: close\r\n" in client.wire.sent
        assert client.wire.closed


async def test_the_servers_end_between_requests() -> None:
    """A connection without a request gets a moment, since one may be on its way; that one is answered."""
    client = Client()
    client.protocol.shutdown()
    client.send(request())
    client.protocol._close_idle()
    client.decider.reply()
    assert statuses(client.wire.sent) == [201]
    client = Client()
    client.protocol.shutdown()
    assert not client.wire.closed
    client.protocol._close_idle()
    assert client.wire.closed
