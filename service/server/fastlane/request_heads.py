"""Parse request heads strictly (HTTP/1.1), against request smuggling: for the other files of the fast lane.

uvicorn's parser accepts heads of any size, and a proxy may be more lenient. So every request's head is checked here.
"""

import re
from typing import NamedTuple

from service.engine.domain.errors import Refusal, malformed

MAX_HEAD_BYTES = 16 << 10
MAX_HEADERS = 100
MAX_LENGTH_DIGITS = 15

_FIELDS = rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t -~\x80-\xff]*+\r\n)*)\r\n"
find_head = re.compile(rb"([A-Z-]{1,32}+) ([!-~]++) HTTP/1\.([01])\r\n" + _FIELDS).match
find_rest = re.compile(rb" HTTP/1\.1\r\n" + _FIELDS).match
"""The rest of a head, from the end of its path. find_head matches a head of a method, a path and such a rest, too."""

is_host = re.compile(rb"[^\s,/\\?#@]*\Z").match
_is_bare = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)").search


class Head(NamedTuple):
    """A request's head for uvicorn's parser; `length` is the body's in bytes, None if it is chunked."""

    data: bytes
    length: int | None


def drop_empty_lines(data: bytes) -> bytes:
    """The data without the empty lines before a request (RFC 9112, 2.2)."""
    rest = data.lstrip(b"\r\n")
    return data[: len(data) - len(rest)].replace(b"\r\n", b"") + rest


def read_head(data: bytes, match: "re.Match[bytes]") -> Head:
    """Check and parse the head that find_head matched. Refusal `malformed` or `headers_too_large`."""
    method, target, minor, lines = match.groups()
    end = match.end()
    if end > MAX_HEAD_BYTES or lines.count(b"\n") > MAX_HEADERS:
        raise Refusal("headers_too_large")
    if method == b"CONNECT":
        raise malformed("method", "CONNECT is not offered")
    if b"#" in target:  # uvicorn's parser would drop it and what follows
        raise malformed("path", "must not have a `#`; percent-encode it as %23")
    values: dict[bytes, list[bytes]] = {}
    for line in lines.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        values.setdefault(name.lower(), []).append(value_of(value))
    hosts = values.get(b"host", [])
    if len(hosts) > 1 or (not hosts and minor == b"1") or not all(map(is_host, hosts)):
        raise malformed("Host", "must be there once")
    head = data[:end]
    if b"upgrade" in values:  # a server may ignore it; uvicorn's parser would stop
        head = re.sub(rb"(?i)\r\nupgrade:[^\r]*", b"", head)
    return Head(head, _length(values, minor))


def value_of(text: bytes) -> bytes:
    """A field's value as uvicorn's parser returns it, with trailing tabs."""
    return text.lstrip(b" \t").rstrip(b" ")


def _length(values: dict[bytes, list[bytes]], minor: bytes) -> int | None:
    lengths, codings = values.get(b"content-length", []), values.get(b"transfer-encoding", [])
    if codings:
        if lengths or minor == b"0" or [coding.lower() for coding in codings] != [b"chunked"]:
            raise malformed("Transfer-Encoding", "must be chunked, without a Content-Length")
        return None
    if not lengths:
        return 0
    if len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > MAX_LENGTH_DIGITS:
        raise malformed("Content-Length", "must be one number")
    return int(lengths[0])


def refused_start(data: bytearray, checked: int) -> Refusal | None:
    """The refusal of data that can't become a head, or None. Earlier calls have checked `checked` bytes."""
    if len(data) > MAX_HEAD_BYTES:
        return Refusal("headers_too_large")
    start = max(checked - 3, 0)
    if data.find(b"\r\n\r\n", start) >= 0 or _is_bare(data, start):
        return malformed("head", "can't be read")
    return None
