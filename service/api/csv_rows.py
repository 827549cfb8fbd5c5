"""Rows of CSV as RFC 4180 has them, of which no cell is taken for a formula."""

import csv
import io
from collections.abc import Iterable, Sequence

Cell = str | int | None

MEDIA_TYPE = "text/csv"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def csv_rows(rows: Iterable[Sequence[Cell]]) -> bytes:
    """The rows in UTF-8, each ended by CRLF; None is an empty cell.

    A text that a spreadsheet would take for a formula gets a `'` before it, within the quotes where it needs them.
    """
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\r\n").writerows([_harmless(cell) for cell in row] for row in rows)
    return out.getvalue().encode()


def _harmless(cell: Cell) -> Cell:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
