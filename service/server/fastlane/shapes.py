"""Read whole requests by the shape of earlier ones (decision 0091). protocol.py asks its
connection's shapes first, and adopts one after a request that was read the usual way.

A shape is a request's text with its values cut out: credential, code, keys, ids and amount. It matches only a text of
the same bytes with other values, each of characters that every reader takes as they stand, and with the body ending
where Content-Length says. So it reads what the other way reads; test_readers.py compares both.
"""

import re
from functools import lru_cache
from operator import itemgetter
from typing import Any

import msgspec

from service.engine.operations.table import Row
from service.engine.operations.usual_requests import decode_usual, read_amount
from service.server.fastlane.routes import (
    AUTHORIZATION,
    COOKIE,
    FORWARDED,
    KEY,
    LENGTH,
    METHOD,
    REQUEST_ID,
    TRACE,
    HeadValues,
    Lane,
)

OPERATION = slice(17, 21)
"""Where a request's bytes name its operation, after `POST /v1/coupons/`."""
MAX_TEXT = 4 << 10
"""Bytes of a learned request. With the longest values a request is still within the bounds of heads and bodies."""
MAX_SHAPES = 4
"""Of an operation, in a process. The one that was adopted least recently goes."""
MAX_NOTED = 64
"""Texts that came once and are noted. When there are so many, all are forgotten."""
ATTEMPTS_A_SECOND: float = 10
"""Attempts of a process to learn a shape: each takes at most 2 ms, of usual requests 0.3."""

_ID, _TEXT = r"[!$&-.0->@-\[\]-~]{3,100}+", r"[!$&-.0->@-\[\]-~]{1,64}+"
_MEMBERS = dict.fromkeys(("userId", "orderId"), f"({_ID})") | dict.fromkeys(
    ("lockToken", "code", "bookId"), f"({_TEXT})"
)
_MEMBERS["orderValue"] = "((?!0[0-9])[0-9.]{1,16}+)"  # read_amount checks the rest
"""The values in a body. Other members, such as `currency`, belong to the shape."""
_LENGTH = "content-length"
_ADDRESS = r"[0-9A-Fa-f.:]{2,45}+"
_FIELDS = {
    "authorization": (AUTHORIZATION, "(Bearer [!-~]{1,4096}+)"),
    _LENGTH: (LENGTH, "([1-9][0-9]{0,3}+)"),
    "idempotency-key": (KEY, "([!-~]{1,255}+)"),
    "x-request-id": (REQUEST_ID, "([!-~]{1,128}+)"),
    "x-forwarded-for": (FORWARDED, f"({_ADDRESS}(?:, ?{_ADDRESS}){{0,7}})"),
    "traceparent": (TRACE, "([!-~]{1,255}+)"),
}
"""The values in a head, by their fields."""
_CODE = "([0-9A-Za-z_-]{4,64}+)"
_find_code = re.compile(r"POST /v1/coupons/[a-z]+/([^ ]+)").match
_find_fields = re.compile(rf"(?i)\r\n({'|'.join(_FIELDS)}): ?([^\r]+)(?=\r)").finditer
_find_members = re.compile(rf'"({"|".join(_MEMBERS)})": ?"?((?<=")[^"]+|[0-9.]+)').finditer


class RequestShape:
    """A client's requests of one operation."""

    __slots__ = ("_constants", "_has_amount", "_kinds", "_make", "_match", "_pick", "_values", "path", "row")

    def __init__(self, row: Row, values: HeadValues, pattern: str, names: list[str], request: Any) -> None:
        """`names` are those of the pattern's groups; `values` and `request` those that the other way has read."""
        self.row, self._make = row, type(request)
        self.path = row.route.removeprefix(METHOD).partition("{")[0]
        self._match = re.compile(pattern).fullmatch
        self._has_amount = "orderValue" in names
        self._kinds = [(_FIELDS[name][0], place) for place, name in enumerate(names) if name in _FIELDS]
        self._values = [None if kind in dict(self._kinds) else value for kind, value in enumerate(values)]
        fields = request.__struct_encode_fields__
        members = {"/": None, **dict(zip(fields, msgspec.structs.astuple(request), strict=True))}
        self._constants = tuple(None if name in names else value for name, value in members.items())
        places = {name: place for place, name in enumerate((*names, *members)) if name not in names[:place]}
        self._pick = itemgetter(*(places[name] for name in ("/", "{", *fields)))

    def read(self, text: str) -> tuple[HeadValues, str | None, str, Any] | None:
        """The head's values, the name in the path, the body and its request; None for a request of another shape."""
        match = self._match(text)
        if match is None:
            return None
        groups = match.groups()
        name, body, *members = self._pick(groups + self._constants)
        values = self._values.copy()
        for kind, place in self._kinds:
            values[kind] = groups[place]
        if values[LENGTH] != f"{len(body)}":
            return None
        values[LENGTH] = len(body)
        request = self._make(*members)
        if self._has_amount:
            request.order_value = read_amount(request.order_value.encode(), request.currency)
            if request.order_value is None:
                return None
        return values, name, body, request


class RequestShapes:
    """The shapes that a lane has learned; all its connections share them."""

    def __init__(self) -> None:
        self._shapes: dict[bytes, list[RequestShape]] = {}
        self._noted: set[str] = set()
        self._next_s = 0.0

    def adopt(self, row: Row, values: HeadValues, data: bytes, now_s: float) -> RequestShape | None:
        """The shape of a request that was read the usual way, for a connection; None if it has none, or none yet.

        A text that came once is only noted, so that a client whose every text is new leaves the shapes as they are.
        """
        if len(data) > MAX_TEXT:
            return None
        text, shapes = data.decode("latin-1"), self._shapes.setdefault(data[OPERATION], [])
        shape = next((shape for shape in shapes if shape.read(text)), None)
        if shape is None:
            if now_s < self._next_s:
                return None
            self._next_s = now_s + 1 / ATTEMPTS_A_SECOND
            shape = self._learn(row, values, text)
            if shape is None:
                return None
        else:
            shapes.remove(shape)
        shapes.insert(0, shape)
        del shapes[MAX_SHAPES:]
        return shape

    def _learn(self, row: Row, values: HeadValues, text: str) -> RequestShape | None:
        head, end, body = text.partition("\r\n\r\n")
        request = decode_usual(row.operation.usual_decoder, body.encode("latin-1"))
        if request is None or values[COOKIE]:
            return None
        pattern, names = _cut(head + end, body)
        if "authorization" not in names or _LENGTH not in names:
            return None
        if pattern not in self._noted:
            if len(self._noted) >= MAX_NOTED:
                self._noted.clear()
            self._noted.add(pattern)
            return None
        shape, code = RequestShape(row, values, pattern, names, request), _find_code(text)
        return shape if shape.read(text) == (values, code and code[1], body, request) else None


@lru_cache(maxsize=1)
def shapes_of(lane: Lane) -> RequestShapes:
    """The shapes of all connections of a lane."""
    return RequestShapes()


def _cut(head: str, body: str) -> tuple[str, list[str]]:
    """A request's pattern, and its groups: `/` is the code in the path, `{` the body, others fields and members."""
    cuts: list[tuple[int, int, str, str]] = []
    if code := _find_code(head):
        cuts.append((*code.span(1), "/", _CODE))
    for field in _find_fields(head):
        name = field[1].lower()
        cuts.append((*field.span(2), name, _FIELDS[name][1]))
    pattern = [_escape(head, cuts), "("]
    names = [name for *_, name, _ in cuts]
    members = [(*member.span(2), member[1], _MEMBERS[member[1]]) for member in _find_members(body)]
    pattern += [_escape(body, members), ")"]
    return "".join(pattern), [*names, "{", *(name for *_, name, _ in members)]


def _escape(text: str, cuts: list[tuple[int, int, str, str]]) -> str:
    """A text's pattern, with a group in place of each value."""
    at, pieces = 0, list[str]()
    for start, end, _, group in cuts:
        pieces += re.escape(text[at:start]), group
        at = end
    return "".join((*pieces, re.escape(text[at:])))
