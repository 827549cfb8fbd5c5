"""Codes in requests: one by one, to be generated, or as the lines of an upload."""

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from service.domain.book_requests import MAX_CODES, Time, check_time
from service.domain.code_patterns import CHARSETS, PATTERNS, check_pattern, normalize_charset
from service.domain.errors import BadField, malformed
from service.domain.field_types import MAX_INT, RESERVED_CODES, Answer, Request, canonicalize_code, is_caller_id
from service.domain.times import to_ms

CHUNK = 5_000
"""Codes written in one transaction."""

MAX_ERRORS = 1_000
_MAX_RECORD_BYTES = 1_024
_MAX_RECORD_LINES = 32
_MAX_ECHO = 100
"""Characters of an invalid code that the response repeats."""
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
    """Codes to add to the book `bookId`."""

    book_id: str


class GenerateCodes(Request, kw_only=True):
    """Random codes to generate; `codePattern` and `charset` default to the book's."""

    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_CODES)]
    code_pattern: Annotated[str, msgspec.Meta(extra_json_schema=PATTERNS)] | None = None
    charset: Annotated[str, msgspec.Meta(extra_json_schema=CHARSETS)] | None = None

    def __post_init__(self) -> None:
        if self.code_pattern is not None:
            check_pattern("codePattern", self.code_pattern)
        if self.charset is not None:
            self.charset = normalize_charset("charset", self.charset)


class PatchCoupon(Request, kw_only=True):
    """Changes of a coupon. A null `status` activates it; a null `expiresAt` removes its own expiry."""

    status: Literal["active", "inactive"] | UnsetType | None = UNSET
    expires_at: Time | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        if self.expires_at:
            check_time("expiresAt", self.expires_at)


class BadCode(Answer, kw_only=True):
    """An invalid line of an upload."""

    line: int
    code: str
    reason: str


class Uploaded(Answer, kw_only=True):
    """The result of an upload; `errors` has the first 1,000 invalid lines."""

    added: int
    duplicates: int
    invalid: int
    errors: list[BadCode]


class CodeLine(NamedTuple):
    """A valid line of an upload."""

    code: str
    owner_id: str | None = None
    expires_ms: int | None = None
    max_redemptions: int | None = None


def parse_list(codes: Iterable[str]) -> Iterator[CodeLine | BadCode]:
    """The codes of a JSON body, numbered from 1."""
    for number, text in enumerate(codes, 1):
        yield _parse_fields(number, (text,), ("code",))


class Lines:
    """Parses the lines of an upload as its bytes arrive, in bounded memory.

    A quoted CSV field may contain line breaks. If it has no closing quote, only its first line is invalid.
    """

    def __init__(self, csv: bool) -> None:
        self._csv = csv
        self._columns: tuple[str, ...] | None = None if csv else ("code",)
        self._rest = b""
        self._number = 0
        self._held: list[tuple[int, bytes]] = []

    def feed(self, data: bytes) -> list[CodeLine | BadCode]:
        """The lines that are complete now. Raises Refusal `malformed` for a bad header."""
        whole, line_break, rest = (self._rest + data).rpartition(b"\n")
        # Of a line that is too long, keep just enough to detect that.
        self._rest = rest[: _MAX_RECORD_BYTES + len(_BOM) + 2]
        if not line_break:
            return []
        codes = self._parse_plain_codes(whole)
        return self._parse_lines(whole.split(b"\n")) if codes is None else codes

    def close(self) -> list[CodeLine | BadCode]:
        """The remaining lines, at the end of the upload. Raises Refusal `malformed` if there was no header."""
        parsed = self._parse_lines([self._rest] if self._rest else [])
        while self._held:
            parsed += self._reject_first_held()
        if self._columns is None:
            raise _bad_header()
        return parsed

    def _parse_plain_codes(self, lines: bytes) -> list[CodeLine | BadCode] | None:
        """All lines at once, with the result of _parse_lines. None unless every line is just a valid code."""
        if self._columns != ("code",) or self._held or not _are_codes(lines):
            return None
        codes = lines.decode("ascii").upper().split()
        if not RESERVED_CODES.isdisjoint(codes):
            return None
        self._number += len(codes)
        return list(map(CodeLine, codes))

    def _parse_lines(self, lines: Iterable[bytes]) -> list[CodeLine | BadCode]:
        parsed: list[CodeLine | BadCode] = []
        for raw in lines:
            self._number += 1
            line = raw.removeprefix(_BOM) if self._number == 1 else raw
            line = line.removesuffix(b"\r")
            parsed += self._parse_line(self._number, line)
        return parsed

    def _parse_line(self, number: int, line: bytes) -> list[CodeLine | BadCode]:
        """One line: a record, or the next line of the held record."""
        if not line and not self._held:
            return []
        if not self._csv or (not self._held and b'"' not in line):
            fields = line.decode("utf-8", "surrogateescape").split(",") if self._csv else None
            return self._parse_record(number, line, fields)
        self._held.append((number, line))
        record = b"\n".join(part for _, part in self._held)
        fields = _split_fields(record.decode("utf-8", "surrogateescape"))
        if fields is not None:
            first = self._held[0][0]
            self._held = []
            return self._parse_record(first, record, fields)
        if len(record) > _MAX_RECORD_BYTES or len(self._held) > _MAX_RECORD_LINES:
            return self._reject_first_held()
        return []

    def _reject_first_held(self) -> list[CodeLine | BadCode]:
        """Reject the first held line, and parse the other held lines again."""
        (number, line), *others = self._held
        self._held = []
        if self._columns is None:
            raise _bad_header()
        parsed: list[CodeLine | BadCode] = [_reject(number, line, "has no closing quote")]
        for other in others:
            parsed += self._parse_line(*other)
        return parsed

    def _parse_record(self, number: int, record: bytes, fields: list[str] | None) -> list[CodeLine | BadCode]:
        """A header, or a line with a code. `fields` is None for plain text, empty for a broken record."""
        if self._columns is None:
            self._columns = _parse_header(record, fields)
            return []
        if len(record) > _MAX_RECORD_BYTES:
            return [_reject(number, record, f"is longer than {_MAX_RECORD_BYTES} bytes")]
        try:
            text = record.decode("utf-8")
        except UnicodeDecodeError:
            return [_reject(number, record, "is not UTF-8")]
        if fields is not None and not fields:
            return [_reject(number, record, "has text after a closing quote")]
        return [_parse_fields(number, [text] if fields is None else fields, self._columns)]


def _parse_header(record: bytes, fields: list[str] | None) -> tuple[str, ...]:
    columns = tuple(fields or ())
    if len(record) > _MAX_RECORD_BYTES or columns[:1] != ("code",) or len(set(columns)) != len(columns):
        raise _bad_header()
    if not set(columns) <= set(_COLUMNS):
        raise _bad_header()
    return columns


def _bad_header() -> Exception:
    return malformed("header", "must be code[,userId][,expiresAt][,maxRedemptions]")


def _split_fields(record: str) -> list[str] | None:
    """The fields of a record. Empty for a broken record, None if a quoted field continues on the next line."""
    fields: list[str] = []
    offset = 0
    while True:
        match = _field.match(record, offset)
        if match is None:
            return None if _open_field.match(record, offset) else []
        fields.append(match[2] if match[1] is None else match[1].replace('""', '"'))
        if not match[3]:
            return fields
        offset = match.end()


def _reject(number: int, record: bytes, reason: str) -> BadCode:
    return BadCode(line=number, code=record[:_MAX_ECHO].decode("utf-8", "replace"), reason=reason)


def _parse_fields(number: int, fields: "list[str] | tuple[str, ...]", columns: tuple[str, ...]) -> CodeLine | BadCode:
    code = canonicalize_code(fields[0])
    try:
        if code is None:
            reserved = fields[0].upper() in RESERVED_CODES
            raise BadField("code", "is a reserved word" if reserved else "must have 4 to 64 of A-Z a-z 0-9 - _")
        if len(fields) == 1 == len(columns):
            return CodeLine(code)
        if len(fields) != len(columns):
            raise BadField("line", f"must have {len(columns)} fields")
        cells = {name: field for name, field in zip(columns, fields, strict=True) if field}
        owner, expires_ms = _parse_owner(cells.get("userId")), _parse_expiry(cells.get("expiresAt"))
        return CodeLine(code, owner, expires_ms, _parse_count(cells.get("maxRedemptions")))
    except BadField as bad:
        return BadCode(line=number, code=fields[0][:_MAX_ECHO], reason=str(bad))


def _parse_owner(text: str | None) -> str | None:
    if text is not None and not is_caller_id(text):
        raise BadField("userId", "must have 1 to 100 printable ASCII characters without space, / \\ ? # %")
    return text


def _parse_expiry(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        time = msgspec.convert(text, Time)
    except msgspec.ValidationError:
        raise BadField("expiresAt", "must be an RFC 3339 time with an offset") from None
    check_time("expiresAt", time)
    return to_ms(time)


def _parse_count(text: str | None) -> int | None:
    if text is None:
        return None
    if not _is_count(text) or not 1 <= int(text) <= MAX_INT:
        raise BadField("maxRedemptions", f"must be a whole number from 1 to {MAX_INT}")
    return int(text)
