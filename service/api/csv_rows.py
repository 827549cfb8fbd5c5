"""Encoding rows as CSV (RFC 4180) without cells that a spreadsheet would evaluate as formulas."""

import csv
import io
from collections.abc import Iterable, Sequence

Cell = str | int | None

MEDIA_TYPE = "text/csv"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def encode_csv_rows(rows: Iterable[Sequence[Cell]]) -> bytes:
    """The rows in UTF-8, each ended by CRLF; None is an empty cell.

    A `'` precedes a text that a spreadsheet would evaluate as a formula.
    """
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\r\n").writerows([_escape_formula(cell) for cell in row] for row in rows)
    return out.getvalue().encode()


def _escape_formula(cell: Cell) -> Cell:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
