"""What a client may send: for each shape, the pieces of a request of a size. A new header, text, body or line of a file
is one line here."""

from collections.abc import Callable
from typing import NamedTuple

from tests.harness.growth.storeless import KEY

HEAD_BYTES, BODY_BYTES = 1_800, 7_500
"""The smallest of four sizes: the largest is eight times as much, and just below the bound of a head, or of a hot
request's body."""
FILE_BYTES = 16 << 10
PIECE_BYTES, SHORT_BYTES = 16 << 10, 20
"""How much arrives at once of a body, and of what is sent in pieces."""
FREE = 200
"""Instructions for each byte that may grow as they like: even in the largest request they are few."""


class Shape(NamedTuple):
    """A shape, and its smallest size."""

    size: int
    make: Callable[[int], list[bytes]]
    """The pieces of a request of about this size, as they arrive."""
    media_type: str = ""
    """Of a file of codes, whose parser gets the pieces: its route needs Postgres."""


HEADERS = (
    "Accept: ", "Authorization: ", "Authorization: Bearer ", "Authorization: Bearer a.b.", "Connection: ",
    "Content-Encoding: ", "Content-Type: ", "Content-Type: application/json; ", "Cookie: ", 'Cookie: a="',
    "Cookie: scrip_session=", "Expect: ", "Host: ", "Idempotency-Key: ", "Origin: ", "Prefer: ", "Transfer-Encoding: ",
    "Upgrade: ", "User-Agent: ", "X-Csrf-Token: ", "X-Forwarded-For: ", "X-Request-Id: ", "traceparent: ",
)  # fmt: skip
"""Headers that the service, or a library, may read."""
TEXTS = ("a", " ", ";", "=", '\\"', "%41", "a;q=0.1, ", "#=#; ")
"""Texts that a header repeats, with a number in place of `#`."""
TARGETS = (
    "/",
    "/v1/books/",
    "/v1/coupons/lock/",
    "/v1/books?",
    "/v1/books?cursor=",
    "/console/sign-in/callback?state=",
)
IN_TARGETS = ("a", "/", "%41", "%", "&", "a=#&", "+")
"""Texts that a path or a query repeats."""
FIELDS = {
    "/v1/coupons/lock/ABCD": "userId",
    "/v1/coupons/redeem/ABCD": "orderValue",
    "/v1/coupons/validate": "code",
    "/v1/batch": "operations",
    "/v1/books": "tags",
}
"""Paths, and a field of their bodies."""
STRINGS = ("a", " ", "\\u0041", '\\"', "1")
"""Texts that a JSON string repeats."""
VALUES = ("1", " ", "[", '"1"', "\xff")
"""Texts that are repeated in place of a JSON value."""
MEMBERS = ('"#":1', '"orderValue":"1_0"', '"#":"+"', '"x":[]')
ITEMS = ("1", "{}", '"1_0"')
"""Items of a list."""
OPERATIONS = (
    '{"op":"redeem"}', '{"op":"lock","code":"ABCD","userId":"u"}', '{"op":"redeem","code":"A","userId":"u"}',
    '{"op":"redeem","code":"ABCD","userId":"u","orderValue":"1_0"}', '{"op":"assign","userId":"u"}', '{"op":"x"}',
    '{"op":"redeem","code":"ABCD","userId":"u","x":1}', '{"op":"redeem","code":"ABCD","userId":"u","metadata":{"a":1}}',
)  # fmt: skip
"""Operations of a batch, valid and invalid."""
FILES = (
    "\n", "\r", "a", "ABCD\n", '"', '"\n', '"a""\n', ",", '"a,b"\n', "\xe9\n", "A#,u#,2036-12-01T00:00:00Z,1\n",
    "A#,u,31.12.2036,\n", "!#\n",
)  # fmt: skip
CODES = ('"A#",', '"a\\u0041', " ", "1,", "[")
"""Texts that a file of codes repeats: CSV and text, and the list of a JSON file."""


def fill(text: str, size: int) -> bytes:
    """The text again and again up to this size."""
    coding = "utf-8" if ord(max(text)) > 255 else "latin-1"
    if "#" not in text:
        return text.encode(coding) * (size // len(text.encode(coding)))
    length = len(text.replace("#", "0000"))
    return "".join(text.replace("#", f"{number:04x}") for number in range(size // length)).encode(coding)


def _head(start: str, *lines: bytes) -> bytes:
    return b"\r\n".join([f"{start} HTTP/1.1".encode(), *lines, b"", b""])


_HOST, _KEY, _JSON = b"Host: scrip", f"Authorization: Bearer {KEY}".encode(), b"Content-Type: application/json"


def _header(header: str, text: str) -> Shape:
    """A redemption with this header, and without a key if the header, or a session, may have one."""
    name = header.partition(":")[0].lower()
    own = {"host": _HOST, "content-type": _JSON, "authorization": _KEY, "transfer-encoding": b"Content-Length: 14"}
    own.pop("authorization" if name == "cookie" else name, None)

    def make(size: int) -> list[bytes]:
        lines = (*own.values(), header.encode() + fill(text, size))
        return [_head("POST /v1/coupons/redeem/ABCD", *lines) + b'{"userId":"u"}']

    return Shape(HEAD_BYTES, make)


def _target(start: str, text: str) -> Shape:
    return Shape(HEAD_BYTES, lambda size: [_head(f"GET {start}{fill(text, size).decode('latin-1')}", _HOST, _KEY)])


def body_request(path: str, body: bytes, piece: int = PIECE_BYTES) -> list[bytes]:
    """A request with this body."""
    return _split(_head(f"POST {path}", _HOST, _KEY, _JSON, b"Content-Length: %d" % len(body)) + body, piece)


def _body(path: str, before: str, text: str, after: str, between: str = "") -> Shape:
    def make(size: int) -> list[bytes]:
        middle = fill(text + between, size)
        return body_request(path, before.encode() + middle[: len(middle) - len(between)] + after.encode())

    return Shape(BODY_BYTES, make)


def _split(data: bytes, length: int) -> list[bytes]:
    return [data[start : start + length] for start in range(0, len(data), length)]


def _chunked(make_chunks: Callable[[int], bytes]) -> Shape:
    head = _head("POST /v1/coupons/redeem/ABCD", _HOST, _KEY, _JSON, b"Transfer-Encoding: chunked")
    return Shape(BODY_BYTES, lambda size: [head, *_split(make_chunks(size), PIECE_BYTES)])


def _pipelined(one: bytes, *, pieces: int = 1 << 20) -> Shape:
    return Shape(BODY_BYTES // 4, lambda size: _split(one * (size // len(one)), pieces))


def _line_ends(text: str) -> Shape:
    return Shape(BODY_BYTES, lambda size: [fill(text, size)])


def _body_in_pieces(path: str) -> Shape:
    return Shape(BODY_BYTES, lambda size: _split(b"".join(body_request(path, b'"' + b"a" * size)), SHORT_BYTES))


_ONE = b"".join(body_request("/v1/coupons/redeem/ABCD", b'{"userId":"u"}'))
_END = b"0\r\n\r\n"
CONNECTIONS = {
    **{f"line ends {text!r}": _line_ends(text) for text in ("\r\n", "\n", "\r", "\0")},
    "line ends in pieces": Shape(BODY_BYTES, lambda size: _split(b"\r\n" * (size // 2), SHORT_BYTES + 1)),
    "head in pieces": Shape(HEAD_BYTES, lambda size: _split(_head("GET /", _HOST, b"A: " + b"a" * size), SHORT_BYTES)),
    "endless head in pieces": Shape(HEAD_BYTES, lambda size: _split(b"GET /" + b"a" * size, SHORT_BYTES)),
    "headers": Shape(HEAD_BYTES // 8, lambda size: [_head("GET /v1/books", _HOST, *fill("A: #\n", size).splitlines())]),
    "a long name": Shape(HEAD_BYTES, lambda size: [_head("GET /v1/books", _HOST, b"a" * size + b": b")]),
    "a body in pieces": _body_in_pieces("/v1/books"),
    "a hot body in pieces": _body_in_pieces("/v1/coupons/lock/ABCD"),
    "chunks of a byte": _chunked(lambda size: b"1\r\na\r\n" * (size // 6) + _END),
    "a chunk with leading zeros": _chunked(lambda size: b"0" * size + b"1\r\na\r\n" + _END),
    "a chunk with extensions": _chunked(lambda size: b"1;" + b"a=b;" * (size // 4) + b"\r\na\r\n" + _END),
    "trailers": _chunked(lambda size: b"1\r\na\r\n0\r\n" + b"a: b\r\n" * (size // 6) + b"\r\n"),
    "requests at once": _pipelined(_ONE),
    "requests without a key at once": _pipelined(_ONE.replace(_KEY, b"A: b")),
    "requests of Litestar at once": _pipelined(_head("GET /v1/books", _HOST)),
    "requests in pieces": _pipelined(_ONE, pieces=SHORT_BYTES),
}
"""Ways in which bytes arrive on a connection."""


def _headers() -> dict[str, Shape]:
    return {f"{header}{text!r}": _header(header, text) for header in HEADERS for text in TEXTS}


def _targets() -> dict[str, Shape]:
    return {f"{start}{text!r}": _target(start, text) for start in TARGETS for text in IN_TARGETS}


def _bodies() -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for path, field in FIELDS.items():
        for text in VALUES:
            shapes[f"{path} {text!r}"] = _body(path, "", text, "")
            shapes[f"{path} {field}: {text!r}"] = _body(path, f'{{"{field}":', text, "}")
        for text in MEMBERS:
            shapes[f"{path} {{{text!r}}}"] = _body(path, "{", text, "}", ",")
        for text in STRINGS:
            shapes[f"{path} {field}: string of {text!r}"] = _body(path, f'{{"{field}":"', text, '"}')
        for text in (*ITEMS, *(OPERATIONS if path == "/v1/batch" else ())):
            shapes[f"{path} {field}: list of {text!r}"] = _body(path, f'{{"{field}":[', text, "]}", ",")
    return shapes


def _files() -> dict[str, Shape]:
    shapes = {f"{kind} {text!r}": _file(kind, text) for kind in ("text/csv", "text/plain") for text in FILES}
    return shapes | {f"json {text!r}": _file("application/json", text) for text in CODES}


def _file(kind: str, text: str) -> Shape:
    start = {"application/json": b'{"codes":[', "text/csv": b"code,userId,expiresAt,maxRedemptions\n"}.get(kind, b"")
    return Shape(FILE_BYTES, lambda size: _split(start + fill(text, size), PIECE_BYTES), kind)


SHAPES = {
    "connections": CONNECTIONS,
    "headers": _headers(),
    "targets": _targets(),
    "bodies": _bodies(),
    "files": _files(),
}
"""By kind and name."""
