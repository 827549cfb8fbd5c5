"""Detect the layout of a CSV upload from its first bytes, for code_requests.py: encoding, delimiter, header, the field
of each column, and the form of its dates. The values of CsvOptions are in the API's queries."""

import codecs
import csv
import io
from collections.abc import Sequence
from typing import Annotated, Literal, cast

import msgspec

from service.engine.domain.errors import BadField
from service.engine.domain.field_types import Answer, Request, canonicalize_code
from service.engine.domain.file_kinds import explain_kind
from service.engine.domain.times import ZoneName, find_zone
from service.server.requests.csv_dates import Dates, Order, detect_dates

SAMPLE_BYTES = 16 << 10
"""The first bytes of a file, from which its layout is detected."""
MAX_RECORD_BYTES = 1_024
BOM = b"\xef\xbb\xbf"
_RECORDS = 50
_DATED = 1_000
"""Records whose dates are compared, of the first bytes."""
_MAX_NAME = 100
"""Characters of a column's name that the response repeats."""
_NAMED = 3
"""Unknown columns that a refusal names."""

Delimiter = Literal["comma", "semicolon", "tab", "pipe", "colon"]
DELIMITERS: dict[Delimiter, str] = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "colon": ":"}
Field = Literal["code", "userId", "expiresAt", "maxRedemptions", "amount"]
FIELDS: tuple[Field, ...] = ("code", "userId", "expiresAt", "maxRedemptions", "amount")
IGNORED = "-"
_SYNONYMS: dict[Field, str] = {
    "code": "code coupon couponcode voucher vouchercode promo promocode promotioncode discountcode giftcode",
    "userId": "userid user customer customerid owner ownerid member memberid",
    "expiresAt": "expiresat expires expiry expirydate expiration expirationdate validuntil validto enddate redeemby",
    "maxRedemptions": "maxredemptions maxuses usagelimit redemptionlimit redemptionquantity",
    "amount": "amount balance initialamount initialbalance initialvalue startingbalance currentbalance "
    "remainingbalance giftcardamount giftcardbalance giftcardvalue cardvalue facevalue",
}
_BY_NAME: dict[str, Field] = {name: field for field, names in _SYNONYMS.items() for name in names.split()}
_SEPARATORS = str.maketrans("", "", " _-.")
_COLUMNS = f"^(?:{'|'.join((*FIELDS, IGNORED))})(?:,(?:{'|'.join((*FIELDS, IGNORED))})){{0,63}}$"


class CsvOptions(Request, kw_only=True):
    """What the client says about the layout of its CSV file; the rest is detected. Other media types ignore it."""

    delimiter: Annotated[
        Delimiter | None, msgspec.Meta(description="CSV only: the delimiter of the columns; default: detected.")
    ] = None
    header: Annotated[
        bool | None,
        msgspec.Meta(
            description="CSV only: whether the first line is a header; default: detected. With `columns`, a first "
            "line with a possible code is a header only if the name of each column is one of its field's; a file whose "
            "first line may be either is refused."
        ),
    ] = None
    columns: Annotated[
        str | None,
        msgspec.Meta(
            description="CSV only: the field of each column of the file, in order: `code`, `userId`, "
            "`expiresAt`, `maxRedemptions`, `amount`, or `-` to ignore it. Default: by the names in the header.",
            examples=["code,-,userId"],
            extra_json_schema={"pattern": _COLUMNS},
        ),
    ] = None
    unknown_columns: Annotated[
        Literal["refuse", "ignore"],
        msgspec.Meta(description="CSV only: what to do with a column whose name in the header is not known."),
    ] = "refuse"
    dates: Annotated[
        Order | None,
        msgspec.Meta(
            description="CSV only: the order of day, month and year in `expiresAt`; default: detected. A year may have "
            "two digits, of 2000 to 2099, only if this is sent."
        ),
    ] = None
    time_zone: Annotated[
        ZoneName | None,
        msgspec.Meta(
            description="CSV only: for `expiresAt`, an IANA name. A date without a time is the end of that day."
        ),
    ] = None

    def __post_init__(self) -> None:
        find_zone(self.time_zone)
        if self.columns is None:
            return
        fields = self.columns.split(",")
        used = [field for field in fields if field != IGNORED]
        if not set(used) <= set(FIELDS):
            raise BadField(
                "columns", f"must have only {', '.join(FIELDS)} and {IGNORED}, separated by commas", malformed=True
            )
        if "code" not in used or len(set(used)) < len(used):
            raise BadField("columns", "must have code once, and each other field at most once", malformed=True)


class Column(Answer, kw_only=True):
    """A column of a CSV file."""

    name: str | None
    field: Annotated[Field | None, msgspec.Meta(description="What it is read as; null if it is ignored.")]
    example: Annotated[str | None, msgspec.Meta(description="Only of a dry run: its first value that is not empty.")]


class Layout(Answer, kw_only=True):
    """How a CSV file is read."""

    encoding: Annotated[
        Literal["utf-8", "utf-16", "windows-1252"],
        msgspec.Meta(
            description="That of the first bytes. Fields are ASCII, so any other 8-bit code page is read, too."
        ),
    ]
    delimiter: Delimiter
    has_bom: Annotated[bool, msgspec.Meta(description="Whether the file begins with a byte order mark.")]
    has_header: bool
    columns: list[Column]
    dates: Annotated[
        Dates | None,
        msgspec.Meta(description="How dates without an offset are read; null if there are none in the first 16 KiB."),
    ]
    problem: Annotated[
        str | None, msgspec.Meta(description="Why an upload refuses the whole file; null if it does not.")
    ]
    problem_field: Annotated[
        str | None, msgspec.Meta(description="What the problem is about: `header`, `dates` or `timeZone`.")
    ]


def detect_layout(
    sample: bytes, is_whole: bool, options: CsvOptions, needed: Field = "code", named: str | None = None
) -> Layout:
    """The layout of the file that begins with `sample`, or is it if `is_whole`. A file of users, who are `needed`, must
    have a header; they are in the column that is `named`, else in one of a known name."""
    has_bom = sample.startswith(BOM)
    delimiter: Delimiter = options.delimiter or "comma"
    if problem := explain_kind(sample):
        return _refuse_file(delimiter, has_bom, problem)
    text, encoding = _decode_sample(sample.removeprefix(BOM))
    candidates: Sequence[Delimiter] = (options.delimiter,) if options.delimiter else tuple(DELIMITERS)
    if encoding != "utf-8" and not options.delimiter:
        candidates = [name for name in candidates if name != "pipe"]  # in East Asian code pages a part of letters
    tables = {name: _split(text, is_whole, DELIMITERS[name]) for name in candidates}
    delimiter = max(tables, key=lambda name: (named in next(iter(tables[name]), []), *_rate(tables[name])))
    records = tables[delimiter]
    if not records:
        return _refuse_file(delimiter, has_bom, "is missing; the file is empty")
    if len(DELIMITERS[delimiter].join(records[0]).encode()) > MAX_RECORD_BYTES:
        return _refuse_file(delimiter, has_bom, f"is longer than {MAX_RECORD_BYTES} bytes")
    if needed == "code":
        fields, has_header, problem = _map_columns(records, options)
    else:
        fields = [needed if cell == named else None if named else _find_field(cell) for cell in records[0]]
        has_header, problem = True, _find_problem(records[0], fields, "ignore", needed)
    dates, date_problem = None, None
    if problem is None and needed == "code" and "expiresAt" in fields:
        dated, place = _split(text, is_whole, DELIMITERS[delimiter], _DATED)[has_header:], fields.index("expiresAt")
        values = [record[place] for record in dated if place < len(record)]
        dates, date_problem = detect_dates(values, options.dates, options.time_zone)
    names = records[0] if has_header else [None] * len(fields)
    first = records[has_header:]
    return Layout(
        encoding=encoding,
        delimiter=delimiter,
        has_bom=has_bom,
        has_header=has_header,
        columns=[
            Column(name=None if name is None else name[:_MAX_NAME], field=field, example=_find_example(first, place))
            for place, (name, field) in enumerate(zip(names, fields, strict=True))
        ],
        dates=dates,
        problem=date_problem.reason if date_problem else problem,
        problem_field=date_problem.field if date_problem else problem and "header",
    )


def decode_line(line: bytes) -> str:
    """The text of a line in UTF-8, or else in Windows-1252: in any such code page ASCII is the same."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace")


def _decode_sample(sample: bytes) -> tuple[str, Literal["utf-8", "windows-1252"]]:
    """The text of the first bytes, of which the last character may be cut off, and its encoding."""
    try:
        return codecs.utf_8_decode(sample, "strict", False)[0], "utf-8"
    except UnicodeDecodeError:
        return decode_line(sample), "windows-1252"


def _refuse_file(delimiter: Delimiter, has_bom: bool, problem: str) -> Layout:
    return Layout(
        encoding="utf-8",
        delimiter=delimiter,
        has_bom=has_bom,
        has_header=False,
        columns=[],
        dates=None,
        problem=problem,
        problem_field="header",
    )


def _split(text: str, is_whole: bool, delimiter: str, most: int = _RECORDS) -> list[list[str]]:
    """The first records of a text without empty lines. Of a text that goes on, the last record is left out."""
    records: list[list[str]] = []
    for record in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
        if record:
            records.append(record)
        if len(records) > most:
            break
    return records[: most if is_whole or len(records) > most else max(1, len(records) - 1)]


def _rate(records: list[list[str]]) -> tuple[int, int, int]:
    """How well a delimiter fits: by known names in the header, by records of the same length with a code, by codes."""
    if not records:
        return 0, 0, 0
    width = len(records[0])
    known = len({_find_field(cell) for cell in records[0]} - {None})
    alike = sum(len(record) == width and any(map(canonicalize_code, record)) for record in records[1:] or records)
    return known, alike if width > 1 else 0, alike


def _find_field(name: str) -> Field | None:
    return _BY_NAME.get(name.casefold().translate(_SEPARATORS))


def _map_columns(records: list[list[str]], options: CsvOptions) -> tuple[list[Field | None], bool, str | None]:
    """The field of each column, whether there is a header, and why the file is refused, if it is."""
    first = records[0]
    known: list[Field | None] = [_find_field(cell) for cell in first]
    if options.columns is not None:
        chosen: list[Field | None] = [
            None if text == IGNORED else cast("Field", text) for text in options.columns.split(",")
        ]
        if len(chosen) != len(first):
            unmapped: list[Field | None] = [None] * len(first)
            has_header = any(known) if options.header is None else options.header
            return unmapped, has_header, f"has {len(first)} columns, but `columns` names {len(chosen)}"
        return chosen, *_find_header_above(chosen, known, records, options.header)
    has_header = options.header
    if has_header is None:
        has_header = any(known) or not _looks_like_codes(records)
    if not has_header:
        if len(first) == 1:
            return ["code"], False, None
        return [None] * len(first), False, "is missing; name the fields of the columns in `columns`, or add a header"
    return known, True, _find_problem(first, known, options.unknown_columns)


def _find_header_above(
    chosen: list[Field | None], known: list[Field | None], records: list[list[str]], header: bool | None
) -> tuple[bool, str | None]:
    """Whether there is a header above columns that the client has named, and why the file is refused, if it is. A line
    with a possible code is skipped only if `header` is true, or if all its names are those of these fields."""
    if header is not None:
        return header, None
    if all(field in (None, name) for field, name in zip(chosen, known, strict=True)):
        return True, None
    if not canonicalize_code(records[0][chosen.index("code")]):
        return True, None
    if _looks_like_codes(records):
        return False, None
    return True, "may be a line with a code; send `header=true` or `header=false`"


def _looks_like_codes(records: list[list[str]]) -> bool:
    """Whether the first record has a code with a digit, which is as long as that of another record."""
    first, *others = records
    for place, cell in enumerate(first):
        if canonicalize_code(cell) and any(character.isdigit() for character in cell):
            lengths = {len(other[place]) for other in others if place < len(other)}
            if not others or len(cell) in lengths:
                return True
    return False


def _find_problem(
    names: list[str], fields: list[Field | None], unknown_columns: str, needed: Field = "code"
) -> str | None:
    if needed not in fields and needed != "code":
        there = _quote_names(names)
        return f"has no column `{needed}` ({there}); name another in `userColumn`, or send a text with one a line"
    if needed not in fields:
        return (
            f"has no column `code` ({_quote_names(names)}); name the fields of the columns in `columns`, and send "
            "`header=false` if there is no header"
        )
    for field in FIELDS:
        if fields.count(field) > 1:
            same = [name for name, found in zip(names, fields, strict=True) if found == field]
            return f'has two columns for {field}, "{same[0]}" and "{same[1]}"; name the fields in `columns`'
    unknown = [name for name, field in zip(names, fields, strict=True) if field is None]
    if unknown and unknown_columns == "refuse":
        shown = _quote_names(unknown)
        return f"has unknown columns: {shown}; ignore them with `unknownColumns=ignore`, or name fields in `columns`"
    return None


def _quote_names(names: list[str]) -> str:
    return ", ".join(f'"{name[:_MAX_NAME]}"' for name in names[:_NAMED]) + (" …" if len(names) > _NAMED else "")


def _find_example(records: list[list[str]], place: int) -> str | None:
    return next((record[place][:_MAX_NAME] for record in records if place < len(record) and record[place]), None)
