"""Encoding rows as CSV (RFC 4180) without cells that a spreadsheet would evaluate as formulas. exports.py, audit.py,
jobs.py, codes.py and upload_dry_run.py call this."""

import contextlib
import csv
import io
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import datetime
from typing import Annotated, Literal, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from service.engine.domain.field_types import Request
from service.server.api.bulk import PIECE
from service.server.requests.csv_layout import BOM, DELIMITERS

Cell = str | int | None
Row = TypeVar("Row")
Excel = Annotated[
    Literal["comma", "semicolon"] | None,
    msgspec.Meta(
        description="Write the file for Excel, with a byte order mark. Excel opens a file that has the list separator "
        "of its language: `semicolon`, with commas in amounts, as in most of Europe; or `comma`. Times are of the "
        "workspace's `timeZone`. Default: a file for programs, with commas, times in UTC, and no byte order mark."
    ),
]

MEDIA_TYPE = "text/csv"
_TIMES = frozenset("from at assignedAt expiresAt redeemedAt rolledBackAt soldOutAt".split())
_AMOUNTS = frozenset(
    "amount orderValue discountAmount finalAmount paidByCard balanceSpent issued credited spent returned closed "
    "outstanding".split()
)
"""Columns that Excel needs in another form."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_inner_formula = re.compile('([,;|\t\r\n])(?="*[=+@＝＋－＠-])')
"""After what may separate cells for a program that splits at another character than the file's. Such a program does not
take quotes in the middle of its cell for quotes."""


class CsvFormat(Request):
    """How a CSV file is written."""

    excel: Excel = None


class CsvStyle(NamedTuple):
    """The format of a file, and the time zone of its times if it is for Excel."""

    excel: Excel = None
    zone: str = "UTC"


def encode_csv_head(columns: Sequence[str], excel: Excel) -> bytes:
    """The first line of a file with these columns."""
    return (BOM if excel else b"") + encode_csv_rows([columns], excel)


def encode_csv_rows(rows: Iterable[Sequence[Cell]], excel: Excel = None) -> bytes:
    """The rows in UTF-8, each ended by CRLF; None is an empty cell.

    A `'` stands before each text that a spreadsheet may evaluate as a formula: at the start of a cell, and after each
    separator that a program may split lines at.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=DELIMITERS[excel or "comma"], lineterminator="\r\n")
    writer.writerows([_escape_formula(cell) for cell in row] for row in rows)
    return out.getvalue().encode()


async def encode_csv_pages(
    columns: Sequence[str],
    pages: AsyncIterator[Sequence[Row]],
    cells: Callable[[Row], Sequence[Cell]],
    style: CsvStyle,
) -> AsyncIterator[bytes]:
    """A file with these columns, in pieces, as its pages are read. The first piece has the names, also without rows."""
    excel = style.excel
    head, adapt = encode_csv_head(columns, excel), _adapt_to_excel(columns, style)
    async with contextlib.aclosing(pages):  # type: ignore[type-var]
        async for page in pages:
            for start in range(0, len(page), PIECE):
                rows = map(cells, page[start : start + PIECE])
                yield head + encode_csv_rows(map(adapt, rows) if excel else rows, excel)
                head = b""
    if head:
        yield head


def _adapt_to_excel(columns: Sequence[str], style: CsvStyle) -> Callable[[Sequence[Cell]], Sequence[Cell]]:
    """Changes a row for Excel: its times to those of the zone, without an offset, which Excel takes for text; for
    `semicolon` its amounts to decimal commas, since Excel takes 1.50 for a day in January."""
    zone = ZoneInfo(style.zone)
    times = [at for at, name in enumerate(columns) if name in _TIMES]
    amounts = [at for at, name in enumerate(columns) if name in _AMOUNTS and style.excel == "semicolon"]

    def adapt(cells: Sequence[Cell]) -> Sequence[Cell]:
        adapted = list(cells)
        for at in times:
            if isinstance(text := adapted[at], str):
                adapted[at] = _localize_time(text, zone)
        for at in amounts:
            if isinstance(text := adapted[at], str):
                adapted[at] = text.replace(".", ",")
        return adapted

    return adapt


def _localize_time(text: str, zone: ZoneInfo) -> str:
    time = datetime.fromisoformat(text)
    with contextlib.suppress(OverflowError):  # the last hours of the year 9999
        time = time.astimezone(zone)
    return time.replace(tzinfo=None).isoformat(" ", "seconds")


def _escape_formula(cell: Cell) -> Cell:
    if not isinstance(cell, str):
        return cell
    if _inner_formula.search(cell):
        cell = _inner_formula.sub(r"\1'", cell)
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
