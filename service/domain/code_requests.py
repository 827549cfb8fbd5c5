"""Codes as a merchant sends them: one by one, generated, or as the lines of an upload."""

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from service.domain.book_requests import MAX_CODES, Time, check_time
from service.domain.code_patterns import CHARSETS, PATTERNS, check_pattern, checked_charset
from service.domain.errors import BadField, malformed
from service.domain.field_types import MAX_INT, RESERVED_CODES, Answer, Request, canonical_code, is_caller_id
from service.domain.times import to_ms

CHUNK = 5_000
"""Codes that are written in one transaction."""

MAX_ERRORS = 1_000
_MAX_RECORD_BYTES = 1_024
_MAX_RECORD_LINES = 32
_SHOWN = 100
_BOM = b"\xef\xbb\xbf"
_COLUMNS = ("code", "userId", "expiresAt", "maxRedemptions")

_are_codes = re.compile(rb"[A-Za-z0-9_-]{4,64}\r?(?:\n[A-Za-z0-9_-]{4,64}\r?)*+").fullmatch
_field = re.compile(r'(?:"((?:[^"]|"")*)"|((?!")[^,]*))(,|\Z)')
_open_field = re.compile(r'"(?:[^"]|"")*\Z')
_is_count = re.compile(r"[0-9]{1,10}", re.ASCII).fullmatch


class UploadCodes(Request, kw_only=True):
    """Codes to add to a book."""

    codes: Annotated[list[str], msgspec.Meta(examples=[["SUMMER-1", "SUMMER-2"]])]


class UploadCodesOf(UploadCodes, kw_only=True):
    """Codes to add to the book that is named with them."""

    book_id: str


class GenerateCodes(Request, kw_only=True):
    """Random codes to make; the pattern and charset are the book's where left out."""

    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_CODES)]
    code_pattern: Annotated[str, msgspec.Meta(extra_json_schema=PATTERNS)] | None = None
    charset: Annotated[str, msgspec.Meta(extra_json_schema=CHARSETS)] | None = None

    def __post_init__(self) -> None:
        if self.code_pattern is not None:
            check_pattern("codePattern", self.code_pattern)
        if self.charset is not None:
            self.charset = checked_charset("charset", self.charset)


class PatchCoupon(Request, kw_only=True):
    """A code's switch and its own expiry; null switches it on, and takes the expiry away."""

    status: Literal["active", "inactive"] | UnsetType | None = UNSET
    expires_at: Time | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        if self.expires_at:
            check_time("expiresAt", self.expires_at)


class BadCode(Answer, kw_only=True):
    """A line of an upload that can't be a code."""

    line: int
    code: str
    reason: str


class Uploaded(Answer, kw_only=True):
    """What became of an upload; `errors` has the first 1,000 of the invalid ones."""

    added: int
    duplicates: int
    invalid: int
    errors: list[BadCode]


class CodeLine(NamedTuple):
    """A good line."""

    code: str
    owner_id: str | None = None
    expires_ms: int | None = None
    max_redemptions: int | None = None


def parse_list(codes: Iterable[str]) -> Iterator[CodeLine | BadCode]:
    """The codes of a JSON body, numbered from 1."""
    for number, text in enumerate(codes, 1):
        yield _read(number, (text,), ("code",))


class Lines:
    """An upload's lines, read as its bytes arrive, in memory that doesn't grow with it.

    A quoted CSV field may go on over line breaks. One that never ends makes its first line invalid, and only that.
    """

    def __init__(self, csv: bool) -> None:
        self._csv = csv
        self._columns: tuple[str, ...] | None = None if csv else ("code",)
        self._rest = b""
        self._number = 0
        self._held: list[tuple[int, bytes]] = []

    def feed(self, data: bytes) -> list[CodeLine | BadCode]:
        """What is complete by now. Raises Refusal `malformed` for a bad header."""
        whole, line_break, rest = (self._rest + data).rpartition(b"\n")
        # Enough of an over-long line to see that it is one.
        self._rest = rest[: _MAX_RECORD_BYTES + len(_BOM) + 2]
        if not line_break:
            return []
        plain = self._plain(whole)
        return self._take(whole.split(b"\n")) if plain is None else plain

    def close(self) -> list[CodeLine | BadCode]:
        """What the end completes. Raises Refusal `malformed` where there was no header."""
        found = self._take([self._rest] if self._rest else [])
        while self._held:
            found += self._give_up()
        if self._columns is None:
            raise _bad_header()
        return found

    def _plain(self, lines: bytes) -> list[CodeLine | BadCode] | None:
        """The lines at once, as _take reads them one by one, where each is no more than a code; else None."""
        if self._columns != ("code",) or self._held or not _are_codes(lines):
            return None
        codes = lines.decode("ascii").upper().split()
        if not RESERVED_CODES.isdisjoint(codes):
            return None
        self._number += len(codes)
        return list(map(CodeLine, codes))

    def _take(self, lines: Iterable[bytes]) -> list[CodeLine | BadCode]:
        found: list[CodeLine | BadCode] = []
        for raw in lines:
            self._number += 1
            line = raw.removeprefix(_BOM) if self._number == 1 else raw
            line = line.removesuffix(b"\r")
            found += self._line(self._number, line)
        return found

    def _line(self, number: int, line: bytes) -> list[CodeLine | BadCode]:
        """One line, or the end of the record that the lines before it began."""
        if not line and not self._held:
            return []
        if not self._csv or (not self._held and b'"' not in line):
            return self._record(number, line, line.decode("utf-8", "surrogateescape").split(",") if self._csv else None)
        self._held.append((number, line))
        record = b"\n".join(part for _, part in self._held)
        fields = _split(record.decode("utf-8", "surrogateescape"))
        if fields is not None:
            first = self._held[0][0]
            self._held = []
            return self._record(first, record, fields)
        if len(record) > _MAX_RECORD_BYTES or len(self._held) > _MAX_RECORD_LINES:
            return self._give_up()
        return []

    def _give_up(self) -> list[CodeLine | BadCode]:
        """The first line held is invalid; read those after it anew."""
        (number, line), *others = self._held
        self._held = []
        if self._columns is None:
            raise _bad_header()
        found: list[CodeLine | BadCode] = [_bad(number, line, "has a quote that doesn't end")]
        for other in others:
            found += self._line(*other)
        return found

    def _record(self, number: int, record: bytes, fields: list[str] | None) -> list[CodeLine | BadCode]:
        if self._columns is None:
            self._columns = _header(record, fields)
            return []
        if len(record) > _MAX_RECORD_BYTES:
            return [_bad(number, record, f"is longer than {_MAX_RECORD_BYTES} bytes")]
        try:
            text = record.decode("utf-8")
        except UnicodeDecodeError:
            return [_bad(number, record, "is not UTF-8")]
        if fields is not None and not fields:
            return [_bad(number, record, "has text after a closing quote")]
        return [_read(number, [text] if fields is None else fields, self._columns)]


def _header(record: bytes, fields: list[str] | None) -> tuple[str, ...]:
    columns = tuple(fields or ())
    if len(record) > _MAX_RECORD_BYTES or columns[:1] != ("code",) or len(set(columns)) != len(columns):
        raise _bad_header()
    if not set(columns) <= set(_COLUMNS):
        raise _bad_header()
    return columns


def _bad_header() -> Exception:
    return malformed("header", "must be code[,userId][,expiresAt][,maxRedemptions]")


def _split(record: str) -> list[str] | None:
    """A record's fields; none where it is broken, None where a quoted field goes on in the next line."""
    fields: list[str] = []
    place = 0
    while True:
        match = _field.match(record, place)
        if match is None:
            return None if _open_field.match(record, place) else []
        fields.append(match[2] if match[1] is None else match[1].replace('""', '"'))
        if not match[3]:
            return fields
        place = match.end()


def _bad(number: int, record: bytes, reason: str) -> BadCode:
    return BadCode(line=number, code=record[:_SHOWN].decode("utf-8", "replace"), reason=reason)


def _read(number: int, fields: "list[str] | tuple[str, ...]", columns: tuple[str, ...]) -> CodeLine | BadCode:
    code = canonical_code(fields[0])
    try:
        if code is None:
            reserved = fields[0].upper() in RESERVED_CODES
            raise BadField("code", "is a reserved word" if reserved else "must have 4 to 64 of A-Z a-z 0-9 - _")
        if len(fields) == 1 == len(columns):
            return CodeLine(code)
        if len(fields) != len(columns):
            raise BadField("line", f"must have {len(columns)} fields")
        said = {name: field for name, field in zip(columns, fields, strict=True) if field}
        return CodeLine(
            code, _owner(said.get("userId")), _expiry(said.get("expiresAt")), _count(said.get("maxRedemptions"))
        )
    except BadField as bad:
        return BadCode(line=number, code=fields[0][:_SHOWN], reason=str(bad))


def _owner(text: str | None) -> str | None:
    if text is not None and not is_caller_id(text):
        raise BadField("userId", "must have 1 to 100 printable ASCII characters without space, / \\ ? # %")
    return text


def _expiry(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        time = msgspec.convert(text, Time)
    except msgspec.ValidationError:
        raise BadField("expiresAt", "must be a time of RFC 3339 with an offset") from None
    check_time("expiresAt", time)
    return to_ms(time)


def _count(text: str | None) -> int | None:
    if text is None:
        return None
    if not _is_count(text) or not 1 <= int(text) <= MAX_INT:
        raise BadField("maxRedemptions", f"must be a whole number from 1 to {MAX_INT}")
    return int(text)
