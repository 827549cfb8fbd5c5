"""Find a request's hot route, and parse its head, for protocol.py. The routes are the rows of table.py with `fast`."""

import re
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any

from service.common.forwarded_for import NO_PROXIES, Proxies
from service.engine.hot.decider import Decider
from service.engine.operations.base import Command, Reply
from service.engine.operations.call_headers import MAX_BODY_BYTES, clean_user_agent
from service.engine.operations.caller import Caller
from service.engine.operations.table import ROWS, Row
from service.server.access.keyring import Keyring
from service.server.answers.accounting import is_request_id
from service.server.fastlane.request_heads import MAX_HEAD_BYTES, MAX_HEADERS, is_host, value_of

(
    IGNORED, HOST, AUTHORIZATION, TYPE, LENGTH, KEY, REQUEST_ID, AGENT, CLOSES, COOKIE, FORWARDED, ORIGIN, TRACE,
    ELSEWHERE,
) = range(14)  # fmt: skip
"""Kinds of header fields. A request with a field of kind ELSEWHERE falls back to Litestar. IGNORED must stay 0 (false),
and ELSEWHERE the last: HeadValues have no place for it."""
_JSON = (b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8")

HeadValues = list[Any]
"""A head's values, by the kinds above; None for a missing field."""

Recall = Callable[[Caller, Command, Reply], Awaitable[Reply]]
"""Fetches the facts that a reply needs, and runs the command again (service/engine/deciding/recall.py)."""

METHOD = "POST "
"""The method of the fast lane's routes."""
_NAME = "([0-9A-Za-z_-]{1,512}+)"
"""A name in a path. Paths with other names fall back to Litestar."""


def find_route_of(rows: Sequence[Row]) -> "Callable[[bytes], re.Match[bytes] | None]":
    """A function that finds the route of a head. The match ends with the path; its `lastindex` is the number of the
    row, from 1, and that group has the name in the path, empty if the route has none."""
    assert all(row.route.startswith(METHOD) for row in rows)  # noqa: S101, another method has no body
    patterns = (re.sub(r"\\\{\w+\\\}", lambda _: _NAME, re.escape(row.route)) for row in rows)
    routes = "|".join(pattern if _NAME in pattern else f"{pattern}()" for pattern in patterns)
    return re.compile(f"(?:{routes})(?= HTTP/1\\.1\\r\\n)".encode()).match


FAST_ROWS = tuple(row for row in ROWS if row.fast)
find_route = find_route_of(FAST_ROWS)


class Lane:
    """The state that all connections' hot requests share."""

    def __init__(
        self,
        decider: Decider,
        keyring: Keyring,
        recall: Recall,
        proxies: Proxies = NO_PROXIES,
        *,
        answers_origins: bool = False,
    ) -> None:
        """With `answers_origins` cross-origin requests fall back to Litestar."""
        self.decider, self.keyring, self.recall, self.proxies = decider, keyring, recall, proxies
        self._answers_origins = answers_origins

    def read_values(self, match: "re.Match[bytes]") -> HeadValues | None:
        """The values of a head's rest that find_rest matched; None if the request falls back to Litestar."""
        values = _read_values(match)
        return None if values and self._answers_origins and values[ORIGIN] else values


def _read_values(match: "re.Match[bytes]") -> HeadValues | None:
    lines = match[1].split(b"\r\n")[:-1]
    if match.end() > MAX_HEAD_BYTES or len(lines) > MAX_HEADERS:
        return None
    values: HeadValues = [None] * ELSEWHERE
    for line in lines:
        name, _, text = line.partition(b":")
        kind, value = _read_field(name.lower(), value_of(text))
        if kind:
            if kind == ELSEWHERE or values[kind] is not None:
                return None
            values[kind] = value
    if values[COOKIE] and values[AUTHORIZATION] is None:  # may be a session of the console
        return None
    return None if values[HOST] is None or values[LENGTH] is None or values[TYPE] is None else values


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
    b"user-agent": (AGENT, lambda value: clean_user_agent(_text(value))),
    b"x-forwarded-for": (FORWARDED, _text),
    b"origin": (ORIGIN, lambda _: True),
    b"traceparent": (TRACE, _text),
    b"connection": (CLOSES, lambda value: value.lower() == b"close" or None),
    b"cookie": (COOKIE, lambda _: True),
}
"""Header → (kind, reader). A reader returns None for an unusual value, True if only the presence matters."""
_ELSEWHERE = frozenset((b"transfer-encoding", b"content-encoding", b"expect", b"upgrade", b"prefer"))


def _read_field(name: bytes, text: bytes) -> tuple[int, Any]:
    if name in _ELSEWHERE:
        return ELSEWHERE, None
    if name not in _FIELDS or (name == b"connection" and text.lower() == b"keep-alive"):
        return IGNORED, None
    kind, read = _FIELDS[name]
    value = read(text)
    return (ELSEWHERE, None) if value is None else (kind, value)
