"""Parse codes in requests: one by one, to be generated, or as the lines of an upload. Without side effects.

codes.py, coupons.py and json_codes.py call this; code_rows.py writes the resulting CodeLines.
"""

import codecs
import csv
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import islice
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from service.engine.domain.configuration import DiscountRow
from service.engine.domain.errors import BadField, malformed
from service.engine.domain.field_types import (
    CODE_CHARACTERS,
    ID_CHARACTERS,
    MAX_CODES,
    MAX_INT,
    RESERVED_CODES,
    Answer,
    Request,
    canonicalize_code,
    find_fault,
    is_caller_id,
    is_code_character,
    is_id_character,
)
from service.engine.domain.file_kinds import BEGIN_BYTES, UTF_16, explain_kind
from service.engine.domain.money import MAX_DIGITS, Amount, RawPositiveMoney, is_plain, to_e4
from service.engine.domain.times import Time, check_times, find_zone
from service.server.requests.code_patterns import CHARSETS, PATTERNS, check_pattern, normalize_charset
from service.server.requests.csv_amounts import parse_amount
from service.server.requests.csv_dates import SEPARATORS, Reading, parse_time
from service.server.requests.csv_layout import (
    BOM,
    DELIMITERS,
    MAX_RECORD_BYTES,
    SAMPLE_BYTES,
    CsvOptions,
    Field,
    Layout,
    decode_line,
    detect_layout,
)

UPLOADED, GENERATED = 1_000, 5_000
"""Codes written in one transaction: of an upload, whose encoding keeps requests waiting for 5 ms, or of a job."""
LINES = 64
"""Parsed in one turn of the event loop unless each is just a valid code; about half a millisecond of work."""

MAX_ERRORS = 1_000
_MAX_RECORD_LINES = 32
_MAX_ECHO = 100
"""Characters of an invalid code that the response repeats."""

_NULL = msgspec.Raw(b"null")
_AS_IT_IS = Reading()
"""Of a line that has no time."""
_are_codes = re.compile(rb"[A-Za-z0-9_-]{4,64}+(?:\n[A-Za-z0-9_-]{4,64}+)*").fullmatch
_is_count = re.compile(r"[0-9]{1,10}", re.ASCII).fullmatch


class CardCode(Request, kw_only=True):
    """A card to add to a book with the discount `balance`."""

    code: str
    amount: RawPositiveMoney = msgspec.field(default_factory=lambda: _NULL)

    def __post_init__(self) -> None:
        # Read when its turn comes (parse_list): an upload has very many. JsonCodes relies on the absence of brackets.
        if bytes(self.amount)[:1] not in b'"-0123456789n':
            raise BadField("amount", "must be a number or a string", malformed=True)


class UploadCodes(Request, kw_only=True):
    """Codes to add to a book."""

    codes: Annotated[list[str | CardCode], msgspec.Meta(examples=[["SUMMER-1", "SUMMER-2"]])]


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
            check_pattern(self.code_pattern)
        if self.charset is not None:
            self.charset = normalize_charset(self.charset)


class PatchCoupon(Request, kw_only=True):
    """Changes of a coupon."""

    status: Literal["active", "inactive"] | UnsetType | None = UNSET
    expires_at: Time | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        check_times(self)


class BadCode(Answer, kw_only=True):
    """An invalid line of an upload."""

    line: int
    code: str
    reason: str


class Uploaded(Answer, kw_only=True):
    """The result of an upload."""

    added: int
    duplicates: int
    invalid: int
    errors: list[BadCode]
    amount: Annotated[Amount | UnsetType, msgspec.Meta(description="Only of a book of cards.")] = UNSET
    is_exact: Annotated[
        bool | UnsetType,
        msgspec.Meta(
            description="Only of a dry run: whether `added`, `duplicates` and `amount` are exact. With more than "
            "300,000 new codes they are estimates within about 0.5 %."
        ),
    ] = UNSET
    file: Layout | UnsetType = UNSET

    def count_rejected(self, line: "RejectedLine") -> None:
        self.invalid += 1
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(BadCode(line=line.line, code=line.code, reason=line.reason))


class CodeLine(NamedTuple):
    """A valid line of an upload."""

    code: str
    owner_id: str | None = None
    expires_ms: int | None = None
    max_redemptions: int | None = None
    amount_e4: int | None = None
    """None: a card gets its book's value."""


class RejectedLine(NamedTuple):
    """An invalid line of an upload."""

    line: int
    code: str
    """What the code's column has, at most 100 characters."""
    reason: str
    text: str
    """The line, at most 1,024 characters of it."""


def parse_list(
    codes: Iterable[str | CardCode], first: int = 1, card: DiscountRow | None = None
) -> Iterator[CodeLine | RejectedLine]:
    """The codes of a JSON body, numbered from `first`; of a book of cards, if `card` is its discount."""
    for number, item in enumerate(codes, first):
        code = item if isinstance(item, str) else item.code
        line = _parse_fields(number, (code,), ("code",), code, _AS_IT_IS)
        yield line if isinstance(item, str) or isinstance(line, RejectedLine) else _add_amount(number, line, item, card)


def _add_amount(number: int, line: CodeLine, item: CardCode, card: DiscountRow | None) -> CodeLine | RejectedLine:
    raw = bytes(item.amount)
    if raw == b"null":
        return line
    try:
        return line._replace(amount_e4=_check_amount(_decode_amount(raw), card))
    except BadField as bad:
        text = msgspec.json.encode(item).decode()
        return RejectedLine(number, item.code[:_MAX_ECHO], str(bad), text[:MAX_RECORD_BYTES])


def _decode_amount(raw: bytes) -> Decimal:
    """The amount of a JSON number or string."""
    is_text = raw.startswith(b'"')
    if len(raw) > MAX_DIGITS + 2 or (is_text and not is_plain(msgspec.json.decode(raw))):
        raise BadField("amount", "must be a decimal number such as 25.00")
    return msgspec.json.decode(raw, type=Decimal)


def _check_amount(amount: Decimal, card: DiscountRow | None) -> int:
    """A card's amount in 10⁻⁴ units. Raises BadField."""
    if card is None:
        raise BadField("amount", "must be empty: the codes of this book are no cards with a balance")
    amount_e4 = to_e4("amount", amount, card.digits)
    if amount_e4 == 0:
        raise BadField("amount", "must be more than 0")
    return amount_e4


class Lines:
    """Parses the lines of an upload as its bytes arrive, in bounded memory.

    A line ends with LF, CR LF or CR. The first bytes show whether it is a text, if so whether in UTF-16, and the layout
    of a CSV file. A quoted CSV field may contain line breaks. If it has no closing quote, only its first line is bad.
    """

    def __init__(
        self,
        is_csv: bool,
        options: CsvOptions | None = None,
        needed: Field = "code",
        named: str | None = None,
        card: DiscountRow | None = None,
    ) -> None:
        """Each line must have a code; or, if `needed` is `userId`, a user, whose CodeLine has no code, in the column
        that is `named`. `card`: the discount of a book of cards."""
        self._csv, self._needed, self._named, self._card = is_csv, needed, named, card
        self._options = options or CsvOptions()
        self.layout: Layout | None = None
        """How the CSV file is read, as soon as that is detected."""
        self._delimiter = ","
        self._columns: tuple[str, ...] = (needed,)
        self._dates = Reading()
        self._utf_16: codecs.IncrementalDecoder | None = None
        self._skips_header = False
        self._begins = True
        self._sample = b""
        self._rest = b""
        self._return = b""
        self._number = 0
        self._held: list[tuple[int, bytes]] = []

    def feed(self, data: bytes) -> Iterator[list[CodeLine | RejectedLine]]:
        """The complete lines, some at a time. Raises Refusal `malformed` for a bad header or a file that is no text."""
        if self._begins:
            self._sample += data
            if len(self._sample) < (SAMPLE_BYTES if self._csv else BEGIN_BYTES):
                return
            data = self._begin(is_whole=False)
        elif self._utf_16:
            data = self._utf_16.decode(data).encode()
        yield from self._parse(data)

    def _parse(self, data: bytes) -> Iterator[list[CodeLine | RejectedLine]]:
        if self._return or b"\r" in data:
            data = self._unify_line_breaks(data)
        whole, line_break, rest = (self._rest + data).rpartition(b"\n")
        # Of a line that is too long, keep just enough to detect that.
        self._rest = rest[: MAX_RECORD_BYTES + len(BOM) + 2]
        if not line_break:
            return
        codes = self._parse_plain_codes(whole)
        if codes is not None:
            yield codes
            return
        lines = iter(whole.split(b"\n"))
        while some := list(islice(lines, LINES)):
            yield self._parse_lines(some)

    def close(self) -> Iterator[list[CodeLine | RejectedLine]]:
        """The remaining lines, at the end of the upload. Raises Refusal `malformed` for a bad header."""
        if self._begins:
            yield from self._parse(self._begin(is_whole=True))
        if self._utf_16:
            self._rest += self._utf_16.decode(b"", final=True).encode()
        yield self._parse_lines([self._rest] if self._rest else [])
        while self._held:
            yield self._reject_first_held()

    def _begin(self, is_whole: bool) -> bytes:
        """Check the first bytes, and detect a CSV file's layout from them. Returns all bytes that have arrived, in
        UTF-8."""
        data, self._sample, self._begins = self._sample, b"", False
        if codec := UTF_16.get(data[:2]):
            self._utf_16 = codecs.getincrementaldecoder(codec)("replace")
            data = self._utf_16.decode(data).encode()
        if not self._csv:
            if problem := explain_kind(data):
                raise malformed("body", problem)
            return data
        is_whole = is_whole and len(data) <= SAMPLE_BYTES
        self.layout = detect_layout(data[:SAMPLE_BYTES], is_whole, self._options, self._needed, self._named)
        if codec:
            self.layout.encoding = "utf-16"
        if self.layout.problem:
            raise malformed(self.layout.problem_field or "header", self.layout.problem)
        sent, dates = self._options.dates, self.layout.dates
        order, separators = (dates.order, dates.separators) if dates else (sent, SEPARATORS if sent else "")
        self._dates = Reading(order, separators, find_zone(self._options.time_zone), sent is not None)
        self._delimiter = DELIMITERS[self.layout.delimiter]
        self._columns = tuple(column.field or "" for column in self.layout.columns)
        self._skips_header = self.layout.has_header
        return data

    def _unify_line_breaks(self, data: bytes) -> bytes:
        """Each line break as LF. A CR at the end is kept back, since the LF of the same line break may follow it."""
        data = self._return + data
        self._return = b"\r" if data.endswith(b"\r") else b""
        return data.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _parse_plain_codes(self, lines: bytes) -> list[CodeLine | RejectedLine] | None:
        """All lines at once, with the result of _parse_lines. None unless every line is just a valid code."""
        if self._columns != ("code",) or self._skips_header or self._held or not _are_codes(lines):
            return None
        codes = lines.decode("ascii").upper().split()
        if not RESERVED_CODES.isdisjoint(codes):
            return None
        self._number += len(codes)
        return list(map(CodeLine, codes))

    def _parse_lines(self, lines: Iterable[bytes]) -> list[CodeLine | RejectedLine]:
        parsed: list[CodeLine | RejectedLine] = []
        for raw in lines:
            self._number += 1
            line = raw.removeprefix(BOM) if self._number == 1 else raw
            parsed += self._parse_line(self._number, line)
        return parsed

    def _parse_line(self, number: int, line: bytes) -> list[CodeLine | RejectedLine]:
        """One line: a record, or the next line of the held record."""
        if not line and not self._held:
            return []
        if not self._csv or (not self._held and b'"' not in line):
            text = decode_line(line)
            return self._parse_record(number, line, text, text.split(self._delimiter) if self._csv else [text])
        self._held.append((number, line))
        record = b"\n".join(part for _, part in self._held)
        text = decode_line(record)
        fields = _split_fields(text, self._delimiter)
        if fields is not None:
            first = self._held[0][0]
            self._held = []
            return self._parse_record(first, record, text, fields)
        if len(record) > MAX_RECORD_BYTES or len(self._held) > _MAX_RECORD_LINES:
            return self._reject_first_held()
        return []

    def _reject_first_held(self) -> list[CodeLine | RejectedLine]:
        """Reject the first held line, and parse the other held lines again."""
        (number, line), *others = self._held
        self._held = []
        if self._skips_header:
            raise malformed("header", "has no closing quote")
        parsed: list[CodeLine | RejectedLine] = [_reject(number, line, "has no closing quote")]
        for other in others:
            parsed += self._parse_line(*other)
        return parsed

    def _parse_record(self, number: int, record: bytes, text: str, fields: list[str]) -> list[CodeLine | RejectedLine]:
        """A header, or a line with a code. `fields` is empty for a broken record."""
        if self._skips_header:
            self._skips_header = False
            return []
        if len(record) > MAX_RECORD_BYTES:
            return [_reject(number, record, f"is longer than {MAX_RECORD_BYTES} bytes")]
        if not fields:
            return [_reject(number, record, "has text after a closing quote")]
        if self._needed == "userId":
            return [_parse_user(number, fields, self._columns, text)]
        return [_parse_fields(number, fields, self._columns, text, self._dates, self._card)]


def _split_fields(record: str, delimiter: str) -> list[str] | None:
    """The fields of a record. Empty for a broken record, None if a quoted field continues on the next line."""
    try:
        return next(csv.reader([record], delimiter=delimiter, strict=True))
    except csv.Error as error:
        return None if str(error) == "unexpected end of data" else []


def _reject(number: int, record: bytes, reason: str) -> RejectedLine:
    text = record[:MAX_RECORD_BYTES].decode("utf-8", "replace")
    return RejectedLine(number, record[:_MAX_ECHO].decode("utf-8", "replace"), reason, text)


def _parse_fields(
    number: int,
    fields: "list[str] | tuple[str, ...]",
    columns: tuple[str, ...],
    line: str,
    dates: Reading,
    card: DiscountRow | None = None,
) -> CodeLine | RejectedLine:
    """A line with a field for each column; the field of a column without a name is ignored."""
    place = 0 if columns[0] == "code" else columns.index("code")
    cell = fields[place] if place < len(fields) else ""
    code = canonicalize_code(cell)
    if code is None and place < len(fields):
        fault = f"must have {CODE_CHARACTERS}, but has {find_fault(cell, is_code_character)}"
        reason = f"code: {'is a reserved word' if cell.upper() in RESERVED_CODES else fault}"
        return RejectedLine(number, cell[:_MAX_ECHO], reason, line[:MAX_RECORD_BYTES])
    try:
        if code is None or len(fields) != len(columns):
            raise BadField("line", f"must have {len(columns)} fields")
        if len(columns) == 1:
            return CodeLine(code)
        cells = {name: field for name, field in zip(columns, fields, strict=True) if field}
        owner, expiry = _parse_owner(cells.get("userId")), cells.get("expiresAt")
        expires_ms = None if expiry is None else parse_time(expiry, dates)
        most, amount = cells.get("maxRedemptions"), cells.get("amount")
        if card and most:
            raise BadField("maxRedemptions", "must be empty: a card can be used while it has a balance")
        amount_e4 = None if amount is None else _check_amount(parse_amount(amount), card)
        return CodeLine(code, owner, expires_ms, _parse_count(most), amount_e4)
    except BadField as bad:
        return RejectedLine(number, cell[:_MAX_ECHO], str(bad), line[:MAX_RECORD_BYTES])


def _parse_user(number: int, fields: list[str], columns: tuple[str, ...], line: str) -> CodeLine | RejectedLine:
    place = columns.index("userId")
    try:
        if len(fields) != len(columns):
            raise BadField("line", f"must have {len(columns)} fields")
        return CodeLine("", _parse_owner(fields[place]))
    except BadField as bad:
        return RejectedLine(number, "", str(bad), line[:MAX_RECORD_BYTES])


def _parse_owner(text: str | None) -> str | None:
    if text is not None and not is_caller_id(text):
        raise BadField("userId", f"must have {ID_CHARACTERS}, but has {find_fault(text, is_id_character)}")
    return text


def _parse_count(text: str | None) -> int | None:
    if text is None:
        return None
    if not _is_count(text) or not 1 <= int(text) <= MAX_INT:
        raise BadField("maxRedemptions", f"must be a whole number from 1 to {MAX_INT}")
    return int(text)
