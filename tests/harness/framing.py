"""Requests whose end two servers might see at different places, each with a second one hidden behind it.

`refused` are all to be refused once, and the connection closed. `contained` hold the hidden one in their body, where it
is no request: each is answered once.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple


class Vector(NamedTuple):
    """Bytes that a client sends."""

    name: str
    data: bytes


_LINES = {
    "get": (b"GET /v1/books HTTP/1.1", b""),
    "post": (b"POST /v1/books HTTP/1.1", b'{"name":"n"}'),
    "hot": (b"POST /v1/coupons/lock/NO-SUCH HTTP/1.1", b'{"userId":"u"}'),
}
_USUAL = (b"Host: x", b"Authorization: Bearer demo_admin", b"Content-Type: application/json")

_CHUNKED = b"Transfer-Encoding: chunked"

_LENGTHS = (
    b"-1", b"+1", b" ", b"", b"0x1", b"1e1", b"1.0", b"1,1", b"1, 1", b"1,2", b"1;1", b"1 1", b"1\t1", b"\xb2",
    b"\xef\xbc\x91", b"1_0", b"0b1", b"NaN", b"99999999999999999999", b"9" * 300, b"18446744073709551617", b"'1'",
    b'"1"', b"1\x0b", b"1\x00", b"(1)", b"1/1", b"1\r", b"--1",
)  # fmt: skip
_CODINGS = (
    b"identity", b"gzip", b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"chunked,", b",chunked",
    b"xchunked", b"chunkedx", b"x chunked", b"chunked x", b'"chunked"', b"'chunked'", b"chunked;q=1", b"chunked; a=b",
    b"", b"\x0bchunked", b"\x0cchunked", b"chunked\x00", b"\x00chunked", b"chunked\xa0", b"chunke", b"deflate",
    b"nothing", b"CHUNKED, identity", b"identity, chunked", b"chun\tked",
)  # fmt: skip
_HOSTS = (
    (), (b"Host: x", b"Host: x"), (b"Host: x", b"Host: y"), (b"Host: x", b"host: y"), (b"Host: a, b",), (b"Host: a b",),
    (b"Host: a/b",), (b"Host: a@b",), (b"Host: a\\b",), (b"Host: a?b",), (b"Host: a#b",), (b"Host : x",),
    (b" Host: x",), (b"Host",), (b"Host: x\x00",), (b"Host: x", b"Host:"),
)  # fmt: skip
_REQUEST_LINES = (
    b"GET  /v1/books HTTP/1.1", b"GET /v1/books  HTTP/1.1", b"GET\t/v1/books HTTP/1.1", b"GET /v1/books\tHTTP/1.1",
    b" GET /v1/books HTTP/1.1", b"\tGET /v1/books HTTP/1.1", b"GET /v1/books HTTP/1.1 ", b"GET /v1/books",
    b"GET /v1/books HTTP/2.0", b"GET /v1/books HTTP/0.9", b"GET /v1/books HTTP/1.2", b"GET /v1/books HTTP/11",
    b"GET /v1/books HTTP/1.1.1", b"GET /v1/books HTTP/01.1", b"GET /v1/books http/1.1", b"GET /v1/books HTTPS/1.1",
    b"GET /v1/books XTTP/1.1", b"get /v1/books HTTP/1.1", b"G\xc3\x89T /v1/books HTTP/1.1", b"G=T /v1/books HTTP/1.1",
    b"/v1/books HTTP/1.1", b"GET HTTP/1.1", b"GET /v1 books HTTP/1.1", b"GET /v1\x00books HTTP/1.1",
    b"GET /v1\x7fbooks HTTP/1.1", b"GET /v1\xc3\xa9 HTTP/1.1", b"GET /v1\x0bbooks HTTP/1.1", b"CONNECT x:80 HTTP/1.1",
    b"PRI * HTTP/2.0", b"NONSENSE /v1/books HTTP/1.1", b"GET /v1/books HTTP/1.1\x00", b"\x16\x03\x01\x02\x00\x01",
    b"GET /v1/books HTTP/1.1, POST /v1/books HTTP/1.1", b"\xef\xbb\xbfGET /v1/books HTTP/1.1",
    b"\nGET /v1/books HTTP/1.1",
)  # fmt: skip
_FIELDS = (
    b": b", b"A", b"A : b", b"A\t: b", b" A: b", b"\tA: b", b"A B: c", b"A\xe9: b", b"A\x00: b", b"A: b\x00",
    b"A: \x01", b"A: b\x0bc", b"A: b\x7f", b"A: b\rc", b"A: b\r", b"\rA: b", b"A:b\r\n c", b"A: b\r\n\tc",
    b"A: b\r\n\r\tc", b"(A): b", b"A;: b", b"A[0]: b", b"{A}: b", b"A\\: b", b'"A": b', b"A/B: c", b"A@: b", b"A=: b",
    b"A?: b", b"A,B: c", b"Idempotency-Key: a\nb",
)  # fmt: skip
_SIZES = (
    b"-1", b"+1", b"0x1", b"x", b"", b" 1", b"1 1", b"ffffffffffffffffff", b"1" * 20, b"1_0", b"\xef\xbc\x91", b"1,1",
    b"1g", b"\x001", b"\t1", b"0 1", b".1", b"1.", b"'1'",
)  # fmt: skip


def hidden(code: str) -> bytes:
    """A request that redeems this code, if it is ever taken for one."""
    body = b'{"userId":"smuggler"}'
    lines = (b"POST /v1/coupons/redeem/%b HTTP/1.1" % code.encode(), *_USUAL, b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def refused() -> Iterator[Vector]:
    for name, (line, body) in _LINES.items():
        length = b"Content-Length: %d" % len(body)
        yield from _lengths(name, line, body, length)
        for hosts in _HOSTS:
            yield _vector(f"{name} hosts {hosts!r}", line, [*hosts, *_USUAL[1:], length], body)
        for field in _FIELDS:
            yield _vector(f"{name} field {field!r}", line, [*_USUAL, field, length], body)
        for at, end in product(range(len(_USUAL) + 2), (b"\n", b"\r", b"\r\r\n", b"\n\r\n")):
            lines = [line, *_USUAL, length]
            text = b"".join(part + (end if place == at else b"\r\n") for place, part in enumerate(lines))
            yield Vector(f"{name} line {at} ends with {end!r}", text + b"\r\n" + body)
        yield from _chunks(name, line)
    for line in _REQUEST_LINES:
        yield _vector(f"line {line!r}", line, list(_USUAL), b"")
    yield _vector("a head without end", b"GET /v1/books HTTP/1.1", [*_USUAL, b"A: " + b"x" * (17 << 10)], b"")
    yield _vector("a line without end", b"GET /" + b"x" * (17 << 10) + b" HTTP/1.1", list(_USUAL), b"")
    yield _vector("many fields", b"GET /v1/books HTTP/1.1", [*_USUAL, *[b"A: b"] * 101], b"")


def _lengths(name: str, line: bytes, body: bytes, length: bytes) -> Iterator[Vector]:
    """Lengths and codings that are none, are there twice, or contradict each other."""
    for value in _LENGTHS:
        yield _vector(f"{name} length {value!r}", line, [*_USUAL, b"Content-Length: " + value], body)
    for value in _CODINGS:
        yield _vector(f"{name} coding {value!r}", line, [*_USUAL, b"Transfer-Encoding: " + value], b"0\r\n\r\n")
    for one, two in ((length, length), (length, b"Content-Length: 0"), (b"Content-Length: 0", length)):
        yield _vector(f"{name} lengths {one!r} {two!r}", line, [*_USUAL, one, two], body)
    for one, two in (
        (length, _CHUNKED), (_CHUNKED, length), (_CHUNKED, b"Content-Length: 0"), (_CHUNKED, _CHUNKED),
        (_CHUNKED, b"transfer-encoding: identity"), (b"Transfer-Encoding : chunked", length),
        (b"Transfer-Encoding\t: chunked", length), (b" Transfer-Encoding: chunked", length),
        (b"Transfer-Encoding:\r\n chunked", length), (b"X: y\rTransfer-Encoding: chunked", length),
        (b"X: y\nTransfer-Encoding: chunked", length), (b"Content-Length : 0", length),
    ):  # fmt: skip
        yield _vector(f"{name} both {one!r} {two!r}", line, [*_USUAL, one, two], b"0\r\n\r\n")
    yield _vector(f"{name} 1.0 chunked", line.replace(b"1.1", b"1.0"), [*_USUAL, _CHUNKED], b"0\r\n\r\n")


def _chunks(name: str, line: bytes) -> Iterator[Vector]:
    """Chunks whose size or end is not what the standard says."""
    bodies = [size + b"\r\nx\r\n0\r\n\r\n" for size in _SIZES]
    bodies += [
        b"1\nx\r\n0\r\n\r\n", b"1\r\nxy\r\n0\r\n\r\n", b"1\r\nx0\r\n\r\n", b"1\r\r\nx\r\n0\r\n\r\n",
        b"1;\x00\r\nx\r\n0\r\n\r\n", b"1\r\nx\n0\r\n\r\n", b"1;a\nx\r\n0\r\n\r\n",
    ]  # fmt: skip
    for data in bodies:
        yield _vector(f"{name} chunks {data!r}", line, [*_USUAL, _CHUNKED], data)


def contained(inside: bytes) -> Iterator[Vector]:
    """What is merely unusual; `inside` is the hidden request."""
    length = b"Content-Length: %d" % len(inside)
    for name, (line, _) in _LINES.items():
        for more in (
            (), (b"Upgrade: h2c", b"Connection: upgrade, http2-settings", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),
            (b"Upgrade: websocket", b"Connection: Upgrade"), (b"Connection: content-length",),
            (b"Connection: transfer-encoding, host",), (b"TE: trailers, deflate",), (b"Trailer: Content-Length",),
            (b"X-HTTP-Method-Override: DELETE",), (b"Proxy-Connection: keep-alive",), (b"Range: bytes=0-1,2-3",),
            (b"Content-Length-X: 0",), (b"X-Content-Length: 0",), (b"Content_Length: 0",),
            (b"Transfer_Encoding: chunked",),
            (b"Keep-Alive: timeout=5, max=1000",), (b"Max-Forwards: 0",), (b"Content-Range: bytes 0-1/2",),
            (b"Content-MD5: x",), (b"Expect: nothing",),
        ):  # fmt: skip
            yield _vector(f"{name} with {more!r}", line, [*_USUAL, *more, length], inside)
        yield _vector(f"{name} 00 length", line, [*_USUAL, b"content-LENGTH:00%d" % len(inside)], inside)
        yield _vector(f"{name} absolute", line.replace(b" /", b" http://other/", 1), [*_USUAL, length], inside)
        chunks = b'%x;a=b;c="d"\r\n%b\r\n0\r\nContent-Length: 0\r\nHost: y\r\n\r\n' % (len(inside), inside)
        yield _vector(f"{name} chunked", line, [*_USUAL, b"Transfer-Encoding: Chunked"], chunks)
        zeros = b"0" * 12 + b"%x\r\n%b\r\n00\r\n\r\n" % (len(inside), inside)
        yield _vector(f"{name} zeros before a size", line, [*_USUAL, b"transfer-encoding:chunked"], zeros)


def _vector(name: str, line: bytes, fields: list[bytes], body: bytes) -> Vector:
    return Vector(name, b"\r\n".join([line, *fields]) + b"\r\n\r\n" + body)
