"""Encoding rows as CSV (RFC 4180) without cells that a spreadsheet would evaluate as formulas. exports.py, audit.py,
jobs.py, codes.py and upload_dry_run.py call this."""

import csv
import io
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Annotated, Literal, TypeVar

import msgspec

from service.api.bulk import PIECE
from service.domain.csv_layout import BOM, DELIMITERS
from service.domain.field_types import Request

Cell = str | int | None
Row = TypeVar("Row")
Excel = Annotated[
    Literal["comma", "semicolon"] | None,
    msgspec.Meta(
        description="Write the file for Excel, with a byte order mark. Excel opens a file that has the list separator "
        "of its language: `semicolon`, with commas in amounts, as in most of Europe; or `comma`. Default: a file for "
        "programs, with commas and without a byte order mark."
    ),
]

MEDIA_TYPE = "text/csv"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


class CsvFormat(Request):
    """How a CSV file is written."""

    excel: Excel = None


def encode_csv_head(columns: Sequence[str], excel: Excel) -> bytes:
    """The first line of a file with these columns."""
    return (BOM if excel else b"") + encode_csv_rows([columns], excel)


def encode_csv_rows(rows: Iterable[Sequence[Cell]], excel: Excel = None) -> bytes:
    """The rows in UTF-8, each ended by CRLF; None is an empty cell.

    A `'` precedes a text that a spreadsheet would evaluate as a formula.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=DELIMITERS[excel or "comma"], lineterminator="\r\n")
    writer.writerows([_escape_formula(cell) for cell in row] for row in rows)
    return out.getvalue().encode()


def localize_amounts(amounts: Sequence[str | None], excel: Excel) -> list[str | None]:
    """The amounts with decimal commas for `semicolon`: Excel would take 1.50 for a day in January."""
    return [amount and amount.replace(".", ",") for amount in amounts] if excel == "semicolon" else list(amounts)


async def encode_csv_pages(
    columns: Sequence[str],
    pages: AsyncIterator[Sequence[Row]],
    cells: Callable[[Row], Sequence[Cell]],
    excel: Excel,
) -> AsyncIterator[bytes]:
    """A file with these columns, in pieces, as its pages are read. The first piece has the names, also without rows."""
    head = encode_csv_head(columns, excel)
    async with aclosing(pages):  # type: ignore[type-var]
        async for page in pages:
            for start in range(0, len(page), PIECE):
                yield head + encode_csv_rows(map(cells, page[start : start + PIECE]), excel)
                head = b""
    if head:
        yield head


def _escape_formula(cell: Cell) -> Cell:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
