"""The bounds of a connection without a network: framing, sizes, timeouts, and the server's shutdown."""

import asyncio
import re
from itertools import pairwise
from types import SimpleNamespace

import pytest
from litestar import Request

from service.engine.domain.errors import Refusal
from service.server.api import auth
from service.server.fastlane import bounded_protocol, connection_room
from service.server.fastlane.request_heads import MAX_HEAD_BYTES, MAX_HEADERS
from tests.harness.framing import refused
from tests.unit.fastlane_fixtures import Client, caller, request, statuses

_GET = b"GET /x HTTP/1.1\r\nHost: scrip\r\n"
_CHUNKED = b"POST /x HTTP/1.1\r\nHost: scrip\r\nTransfer-Encoding: chunked\r\n\r\n"
_AFTER = b"GET /smuggled HTTP/1.1\r\nHost: scrip\r\n\r\n"


@pytest.mark.parametrize("before", [False, True], ids=["first", "second"])
async def test_framing(before: bool) -> None:
    """A request that could be framed in two ways is refused, and the bytes after it are no request."""
    wrong: list[tuple[str, list[int]]] = []
    for vector in refused():
        client = Client()
        if before:
            client.answer()
            client.answer(request(more="Idempotency-Key: a\r\n"))
        await client.ask(vector.data + _AFTER)
        answers = statuses(client.wire.sent)[before * 2 :]
        client.send(_AFTER)
        closed = client.wire.eof and b"\r\nconnection: close\r\n" in client.wire.sent
        if answers not in ([400], [431]) or not closed or client.passed or len(client.decider.asked) != before * 2:
            wrong.append((vector.name, answers))
    assert wrong == []


@pytest.mark.parametrize("sent", [b"GET /x HTTP/1.1\nHost: scrip\n\n", b"GET /x HTTP/1.1\r\nA\n", b"\n", b"A\rB"])
async def test_lines_that_end_otherwise(sent: bytes) -> None:
    """A line end that is not CRLF is 400 at once, byte by byte too."""
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
    """An unusual but valid request is answered."""
    client = Client()
    assert await client.ask(sent) == [200]
    assert [path for path, _ in client.passed] == [sent.strip().partition(b" ")[0].decode() + " /x"]


async def test_a_chunked_body_ends_the_connection() -> None:
    """A chunked body is answered with `Connection: close`, and the bytes after it are not read."""
    client = Client()
    client.send(_CHUNKED + b"7\r\n[2,3,4]\r\n0\r\n\r\n" + _AFTER)
    await client.ask(_AFTER)
    assert client.passed == [("POST /x", b"[2,3,4]")]
    assert client.protocol.scope["path"] == "/x"
    assert statuses(client.wire.sent) == [200]
    assert b"connection: close\r\n" in client.wire.sent
    assert client.wire.closed


async def test_trailers() -> None:
    """A trailer after a chunked body is no header."""
    client = Client()
    client.send(_CHUNKED)
    await client.ask(b"7\r\n[2,3,4]\r\n0\r\nAuthorization: Bearer one\r\n\r\n")
    assert client.headers == [(b"host", b"scrip"), (b"transfer-encoding", b"chunked")]


@pytest.mark.parametrize("size", [1, 10_000])
async def test_many_empty_lines(size: int) -> None:
    """Empty lines before a request are dropped, however many there are; the request is answered."""
    client = Client()
    assert await client.ask(b"\r\n" * size + _GET + b"\r\n") == [200]
    client = Client()
    client.send(b"\r\n" * size)
    assert (client.protocol._buffered, client.protocol._partial_head) == (b"", b"")
    assert await client.ask(request()[:10], request()[10:]) == []
    assert len(client.decider.asked) == 1


@pytest.mark.parametrize("sent", [_GET + b"A: " + b"a" * 5_000 + b"\r\n\r\n", request(), b"\r\n\r\n" + request()])
async def test_a_head_in_many_pieces(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that arrives byte by byte is searched for its end once or a few times, not as often as it has bytes."""
    searched: list[int] = []
    find_head, refused_start = bounded_protocol.find_head, bounded_protocol.refused_start
    monkeypatch.setattr(bounded_protocol, "find_head", lambda data: searched.append(len(data)) or find_head(data))
    monkeypatch.setattr(
        bounded_protocol,
        "refused_start",
        lambda data, seen: searched.append(len(data) - seen) or refused_start(data, seen),
    )
    client = Client()
    for at in range(len(sent)):
        client.send(sent[at : at + 1])
    await client.settle()
    assert len(client.passed) + len(client.decider.asked) == 1
    assert sum(searched) <= 3 * len(sent)


async def test_many_chunks() -> None:
    """Chunks that arrive at once are read in turns; until then the transport reads nothing for any caller."""
    client = Client()
    body = b"1\r\na\r\n" * 30_000 + b"0\r\n\r\n"
    client.send(_CHUNKED + body)
    left = [len(client.protocol._buffered)]
    assert not client.wire.reading
    while client.protocol._buffered:
        client.protocol.flow.resume_reading()  # as a handler that has read what there was
        assert not client.wire.reading
        await asyncio.sleep(0)
        left.append(len(client.protocol._buffered))
    assert max(before - after for before, after in pairwise(left)) == bounded_protocol.TURN_BYTES
    await client.settle()
    assert client.passed == [("POST /x", b"a" * 30_000)]


async def test_chunks_beside_a_client_that_does_not_read() -> None:
    """A body goes on to be read while the client reads no response."""
    client = Client()
    client.send(_CHUNKED + b"1\r\na\r\n" * 3_000)
    client.protocol.pause_writing()
    await client.ask(b"0\r\n\r\n")
    assert client.protocol._buffered == b""
    client.protocol.resume_writing()
    assert statuses(await client.settle()) == [200]


async def test_large_heads() -> None:
    """A head above 16 KiB or 100 lines is 431 as soon as the server has so many bytes; a smaller one is not."""
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
        client.send(b"GET /" + b"x" * 1019 if not client.protocol._partial_head else b"x" * 1024)
    assert client.wire.sent == b""
    client.send(b"x")
    assert statuses(client.wire.sent) == [431]
    client.send(b"x" * 1_000_000)
    assert client.protocol._partial_head == b""


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
    """A request that does not arrive in time is 408 and ends the connection; a byte a second does not help."""
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
    """An upload that makes progress is not cut off, however long it takes."""
    client = Client()
    piece = b"x" * bounded_protocol.PROGRESS_BYTES
    client.send(_GET + b"Content-Length: %d\r\n\r\n" % (len(piece) * 20))
    for _ in range(20):
        client.look(int(bounded_protocol.BODY_S) - 1)
        await client.ask(piece)
    assert statuses(client.wire.sent) == [200]


async def test_idle_connections() -> None:
    """An idle connection is closed silently after its time; a connection that awaits an answer is not."""
    client = Client()
    client.send(request())
    client.look(1000)
    assert not client.wire.closed
    client.decider.reply()
    sent = client.wire.sent
    client.look(client.protocol.timeout_keep_alive)
    assert (client.wire.closed, client.wire.sent) == (True, sent)


async def test_a_client_that_reads_nothing() -> None:
    """A client that does not read its answer is cut off; a client that reads some of it now and then is not."""
    client = Client()
    client.answer()
    for unsent in range(100, 0, -10):
        client.wire.unsent = unsent
        client.look(int(bounded_protocol.WRITE_S) - 1)
    assert not client.wire.closed
    client.look(int(bounded_protocol.WRITE_S))
    assert client.wire.aborted


async def test_too_many_connections() -> None:
    """A connection beyond the bound gets 503 with Retry-After and is closed."""
    client = Client(connections=0)
    assert statuses(client.wire.sent) == [503]
    assert re.search(rb"\r\nretry-after: \d+\r\n.*connection: close\r\n", client.wire.sent, re.DOTALL)
    client.send(request())
    assert client.decider.asked == []
    client.look(int(bounded_protocol.LINGER_S))
    assert client.wire.aborted


async def test_newcomers_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound a connection takes the place of the oldest that has sent no good key; known callers keep theirs,
    through the fast lane and Litestar. If all are known, it takes an idle one's place."""
    monkeypatch.setattr(connection_room, "FOR_STRANGERS", 0.1)
    known = Client(connections=3)
    known.answer()
    wrong = Client(connections=3, beside=known)
    wrong.send(request(key="no"))
    silent = Client(connections=3, beside=known)
    assert not any(client.wire.closed for client in (wrong, silent))
    last = Client(connections=3, beside=known)
    assert (wrong.wire.aborted, silent.wire.closed, known.wire.closed) == (True, False, False)
    wrong.protocol.connection_lost(None)
    await last.ask(_GET + b"\r\n")
    monkeypatch.setattr(auth, "authenticate", lambda *_: caller("two"))
    await auth.admit(Request(dict(last.protocol.scope)), SimpleNamespace(opt=auth.FOR_MANAGERS))  # type: ignore[arg-type]
    silent.protocol.connection_lost(None)
    third = Client(connections=3, beside=known)
    third.send(request(key="limited"))
    beyond = Client(connections=3, beside=known)
    assert [client for client in (known, last, third, beyond) if client.wire.closed] == [known]


async def test_no_room_beside_requests_being_answered() -> None:
    """If all connections have requests that are being decided, a new one is refused."""
    busy = Client(connections=2)
    also_busy = Client(connections=2, beside=busy)
    for client in (busy, also_busy):
        client.send(request())
    beyond = Client(connections=2, beside=busy)
    assert statuses(beyond.wire.sent) == [503]
    assert not busy.wire.closed
    assert not also_busy.wire.closed


@pytest.mark.parametrize("most", ["one", "public"])
@pytest.mark.parametrize("silent_s", [0.0, 60.0])
@pytest.mark.parametrize("for_strangers", [0.1, 0.5])
async def test_the_owner_of_most_connections_makes_room(
    most: str, silent_s: float, for_strangers: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller with the most connections gives up its oldest idle one, not one that is being answered. A public key
    takes no place of its workspace's other keys. A stranger that has been silent, or is one of many, ends before."""
    monkeypatch.setattr(connection_room, "SILENT_S", silent_s)
    monkeypatch.setattr(connection_room, "FOR_STRANGERS", for_strangers)
    other = Client(connections=4)
    other.answer()
    many = [Client(connections=4, beside=other) for _ in range(2)]
    sent = request("/v1/coupons/validate", b'{"code":"ABCD"}', key=most) if most == "public" else request()
    for client in many:
        client.send(sent)
    other.decider.waiting.rotate(-1)
    other.decider.reply(Refusal("unavailable"))
    stranger = Client(connections=4, beside=other)
    idle = many[1] if most == "public" else other
    assert not any(client.wire.closed for client in (other, *many, stranger))
    Client(connections=4, beside=other)
    ended = [client for client in (other, *many, stranger) if client.wire.aborted]
    assert ended == [stranger if silent_s == 0 or for_strangers < 0.25 else idle]


@pytest.mark.parametrize("way", ["pipelined", "unread"])
async def test_no_idle_connection_makes_room(way: str) -> None:
    """Neither pipelined requests nor unread responses keep an owner's connections: without an idle one, it gives up the
    oldest of these."""
    other = Client(connections=3)
    other.answer(request(key="two"))
    many = [Client(connections=3, beside=other) for _ in range(2)]
    for client in many:
        _keep(client, way)
    Client(connections=3, beside=other)
    assert [client for client in (other, *many) if client.wire.closed] == [many[0]]


_BODY = b'{"userId":"u"}' + b" " * (9 << 10)
_HEAD = _GET + b"Cookie: " + b"a" * (9 << 10)
_KEPT = ("head", "body", "whole body", "elsewhere", "pipelined", "unread")
"""The ways in which a connection keeps bytes."""


def _keep(client: Client, way: str, key: str = "one") -> None:
    """Let the connection keep some 9 KiB."""
    if way == "head":
        client.send(_HEAD)
    elif way == "body":
        client.send(request(body=_BODY, key=key)[:-1])
    elif way == "whole body":
        client.send(request(body=_BODY, key=key))
    elif way == "elsewhere":
        client.send(request("/v1/books", _BODY, key=key)[:-1])
    elif way == "pipelined":
        client.send(request(key=key) + request(key=key) * 58)
    else:
        client.answer(request(key=key))
        client.wire.unsent = 9 << 10
        client.protocol.pause_writing()


_ENDS = {"head": b"\r\n\r\n", "body": b" ", "elsewhere": b" "}


@pytest.mark.parametrize("way", _KEPT)
async def test_what_a_connection_keeps(way: str) -> None:
    """The bytes of unfinished requests and unread responses are counted until they are ended, or the connection is."""
    client = Client()
    _keep(client, way)
    assert 9 << 10 <= client.room.buffered_bytes <= 12 << 10
    client.send(_ENDS.get(way, b""))
    client.wire.unsent = 0
    client.protocol.resume_writing()
    for _ in range(60):
        await client.settle()
        if client.decider.waiting:
            client.decider.reply()
    assert (client.protocol._state, client.room.buffered_bytes) == (bounded_protocol.HEAD, 0)
    assert not client.wire.closed
    _keep(client, way)
    client.protocol.connection_lost(None)
    assert client.room.buffered_bytes == 0


@pytest.mark.parametrize("way", _KEPT)
async def test_too_many_bytes(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound the owner that keeps the most loses its oldest unfinished request; others keep theirs. What is
    being decided is answered, as the connection's last request."""
    monkeypatch.setattr(connection_room, "MAX_BUFFERED_BYTES", 35 << 10)
    other = Client()
    _keep(other, "body", "two")
    many = [Client(beside=other) for _ in range(3)]
    for client in many:
        _keep(client, way)
        await client.settle()
    ended = many[-1] if way == "whole body" else many[0]
    if way == "pipelined":
        assert not ended.wire.reading
        other.decider.reply()
        assert statuses(ended.wire.sent) == [201]
        assert b"connection: close\r\n" in ended.wire.sent
    elif way == "unread":
        assert ended.wire.aborted
    else:
        assert statuses(ended.wire.sent) == [429]
    assert [client for client in (other, *many) if client.wire.eof or client.wire.closed] == [ended]
    assert other.room.buffered_bytes <= 35 << 10
    assert not ended.protocol._body
    assert way != "elsewhere" or not ended.protocol.cycle.body


@pytest.mark.parametrize("first", [0, 60 << 10], ids=["head", "all but the end"])
@pytest.mark.parametrize("key", ["one", "no"])
async def test_large_bodies_of_unknown_callers(key: str, first: int) -> None:
    """A hot body of more than 4 KiB that arrives in parts is collected for a known caller alone; others get 401."""
    sent = request(body=b'{"userId":"u"}' + b" " * (60 << 10), key=key)
    start = sent.index(b"\r\n\r\n") + 4 + first
    client = Client()
    client.send(sent[:start])
    collects = key == "one"
    assert statuses(client.wire.sent) == [401] * (not collects)
    client.send(sent[start:-1])
    assert (len(client.protocol._body) > 60 << 10) == collects
    client.send(sent[-1:])
    assert (client.wire.eof, len(client.decider.asked)) == (not collects, collects)
    small = Client()
    assert await small.ask(request(key=key)[:-3]) == []


@pytest.mark.parametrize("whole", [request(), _GET + b"\r\n"], ids=["hot", "elsewhere"])
async def test_shutdown(whole: bytes) -> None:
    """A request that has begun is answered whole with `Connection: close`; then the server closes the connection."""
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


async def test_shutdown_between_requests() -> None:
    """An idle connection gets a moment at shutdown, since a request may be on its way; that request is answered."""
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
