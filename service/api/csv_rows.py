"""Encoding rows as CSV (RFC 4180) without cells that a spreadsheet would evaluate as formulas. exports.py, audit.py,
jobs.py and upload_dry_run.py call this."""

import csv
import io
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import TypeVar

from service.api.bulk import PIECE

Cell = str | int | None
Row = TypeVar("Row")

MEDIA_TYPE = "text/csv"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def encode_csv_rows(rows: Iterable[Sequence[Cell]]) -> bytes:
    """The rows in UTF-8, each ended by CRLF; None is an empty cell.

    A `'` precedes a text that a spreadsheet would evaluate as a formula.
    """
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\r\n").writerows([_escape_formula(cell) for cell in row] for row in rows)
    return out.getvalue().encode()


async def encode_csv_pages(
    columns: Sequence[str], pages: AsyncIterator[Sequence[Row]], cells: Callable[[Row], Sequence[Cell]]
) -> AsyncIterator[bytes]:
    """A file with these columns, in pieces, as its pages are read. The first piece has the names, also without rows."""
    head = encode_csv_rows([columns])
    async with aclosing(pages):  # type: ignore[type-var]
        async for page in pages:
            for start in range(0, len(page), PIECE):
                yield head + encode_csv_rows(map(cells, page[start : start + PIECE]))
                head = b""
    if head:
        yield head


def _escape_formula(cell: Cell) -> Cell:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
