"""Which requests are hot, and what their heads say.

A client's heads differ in little, so each is compared with the one before it on the connection: 1 µs instead of 8.
"""

import re
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, NamedTuple

from uvicorn.server import ServerState

from service.access.caller import Caller
from service.access.keyring import Keyring
from service.common.forwarded_for import NO_PROXIES, Proxies
from service.fastlane.request_heads import MAX_HEAD_BYTES, MAX_HEADERS, is_host, value_of
from service.fastlane.response_bytes import Heads
from service.hot.decider import Decider
from service.operations.accounting import is_request_id
from service.operations.base import Command, Reply
from service.operations.call_headers import MAX_BODY_BYTES, shown_agent
from service.operations.table import ROWS, Row

MAX_VALUE_BYTES = 300
MAX_SHAPES = 256

(
    IGNORED, HOST, AUTHORIZATION, TYPE, LENGTH, KEY, REQUEST_ID, AGENT, CLOSES, COOKIE, FORWARDED, ORIGIN, ELSEWHERE,
) = range(13)  # fmt: skip
"""What a line of a head is about; with one that is ELSEWHERE, Litestar takes the request."""
_JSON = (b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8")

_LIST = rb"[!-~](?:[ -~]*[!-~])?"
_NAMES = rb"idempotency-key|content-length|x-request-id|x-forwarded-for"
_differs = re.compile(rb"(?i)\r\n(" + _NAMES + rb"): ?(" + _LIST + rb")(?=\r\n)").finditer
_is_plain = re.compile(rb"[!-~]{1,255}\Z").match
_is_list = re.compile(_LIST + rb"\Z").match

Told = list[Any]
"""What a head says, by the numbers above; None where it doesn't."""


Recall = Callable[[Caller, Command, Reply], Awaitable[Reply]]
"""What has a command run again with the facts that its reply asks for (service/api/recall.py)."""


PREFIX = "POST /v1/coupons/"
"""Of the routes that the fast lane may answer."""


def _fast(end: str) -> dict[bytes, Row]:
    """The fast lane's rows whose routes end so, by the word between prefix and end."""
    routes = {row.route.removeprefix(PREFIX): row for row in ROWS if row.fast}
    return {
        word.removesuffix(end).encode(): row
        for word, row in routes.items()
        if word.endswith(end) and "/" not in word.removesuffix(end)
    }


WITH_CODE, WITHOUT_CODE = _fast("/{code}"), _fast("")


class Shape(NamedTuple):
    """What a client's heads have in common from the path on: pieces, each before a value that differs from one request
    to the next, what is after the last of these, and what they all say."""

    pieces: tuple[tuple[bytes, int], ...]
    tail: bytes
    told: Told


class Lane:
    """What the hot requests of all connections share."""

    def __init__(
        self,
        decider: Decider,
        keyring: Keyring,
        recall: Recall,
        proxies: Proxies = NO_PROXIES,
        *,
        answers_origins: bool = False,
    ) -> None:
        """With `answers_origins` Litestar takes what pages of other origins ask."""
        self.decider, self.keyring, self.recall, self.proxies = decider, keyring, recall, proxies
        self._answers_origins = answers_origins
        self._heads: Heads | None = None
        self._shapes: dict[tuple[object, bytes], Shape] = {}
        """All connections of a client share one, so that it stays in the processor's cache."""

    def heads(self, server_state: ServerState) -> Heads:
        """The heads of answers, one for all connections."""
        if self._heads is None:
            self._heads = Heads(server_state)
        return self._heads

    def told_in(self, found: "re.Match[bytes]") -> Told | None:
        """What a head says that find_hot found; None where Litestar takes the request."""
        told = _told_in(found)
        return None if told and self._answers_origins and told[ORIGIN] else told

    def shape_of(self, found: "re.Match[bytes]", told: Told) -> Shape:
        """The shape of a head that find_hot found, which says this."""
        head, at = found[0], found.end(1)
        pieces: list[tuple[bytes, int]] = []
        for field in _differs(head, at):
            pieces.append((head[at : field.start(2)], _FIELDS[field[1].lower()][0]))
            at = field.end(2)
        shape = Shape(tuple(pieces), head[at:], told)
        if len(self._shapes) >= MAX_SHAPES:
            self._shapes.clear()
        return self._shapes.setdefault((shape.pieces, shape.tail), shape)


def told_by(shape: Shape, data: bytes, at: int) -> tuple[Told, int] | None:
    """What a head of this shape says, from the end of its path on, and where it ends; None where it is of another."""
    told = shape.told.copy()
    for piece, place in shape.pieces:
        if not data.startswith(piece, at):
            return None
        at += len(piece)
        end = data.find(b"\r", at, at + MAX_VALUE_BYTES)
        value = _PLAIN[place](data[at:end])
        if value is None or end < 0:
            return None
        told[place] = value
        at = end
    return (told, at + len(shape.tail)) if data.startswith(shape.tail, at) else None


def _told_in(found: "re.Match[bytes]") -> Told | None:
    lines = found[4].split(b"\r\n")[:-1]
    if found.end() > MAX_HEAD_BYTES or len(lines) > MAX_HEADERS:
        return None
    told: Told = [None] * (ELSEWHERE + 1)
    for line in lines:
        name, _, value = line.partition(b":")
        place, said = _meaning(name.lower(), value_of(value))
        if place:
            if told[place] is not None or place == ELSEWHERE:
                return None
            told[place] = said
    if told[COOKIE] and told[AUTHORIZATION] is None:  # perhaps a session of the console
        return None
    return None if told[HOST] is None or told[LENGTH] is None or told[TYPE] is None else told


def _text(value: bytes) -> str:
    return value.decode("latin-1")


@lru_cache(maxsize=1024)
def _length(value: bytes) -> int | None:
    if not value.isdigit() or len(value) > 9:
        return None
    length = int(value)
    return length if length <= MAX_BODY_BYTES else None


_FIELDS: dict[bytes, tuple[int, Callable[[bytes], Any]]] = {
    b"host": (HOST, lambda value: is_host(value) and True),
    b"authorization": (AUTHORIZATION, _text),
    b"content-type": (TYPE, lambda value: value.lower() in _JSON or None),
    b"content-length": (LENGTH, _length),
    b"idempotency-key": (KEY, _text),
    b"x-request-id": (REQUEST_ID, lambda value: value.decode("ascii") if is_request_id(value) else None),
    b"user-agent": (AGENT, lambda value: shown_agent(_text(value))),
    b"x-forwarded-for": (FORWARDED, _text),
    b"origin": (ORIGIN, lambda value: value is not None),
    b"connection": (CLOSES, lambda value: value.lower() == b"close" or None),
    b"cookie": (COOKIE, lambda value: value is not None),
}
"""What a header is about, and how to read it: None where it says something unusual."""
_PLAIN: dict[int, Callable[[bytes], Any]] = {
    LENGTH: _length,
    KEY: lambda value: value.decode("ascii") if _is_plain(value) else None,
    REQUEST_ID: lambda value: value.decode("ascii") if is_request_id(value) else None,
    FORWARDED: lambda value: value.decode("ascii") if _is_list(value) else None,
}
"""As read in a shape: what differs is a word; anything else is left to the whole way."""
_ELSEWHERE = frozenset((b"transfer-encoding", b"content-encoding", b"expect", b"upgrade", b"prefer"))


def _meaning(name: bytes, value: bytes) -> tuple[int, Any]:
    if name in _ELSEWHERE:
        return ELSEWHERE, None
    if name not in _FIELDS or (name == b"connection" and value.lower() == b"keep-alive"):
        return IGNORED, None
    place, read = _FIELDS[name]
    said = read(value)
    return (ELSEWHERE, None) if said is None else (place, said)
