"""CSV: quoting, line ends, and no cell that a spreadsheet takes for a formula."""

import csv
import io
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.server.api.csv_rows import CsvStyle, Excel, encode_csv_head, encode_csv_pages, encode_csv_rows


def test_rows() -> None:
    """Rows end in CRLF, the last one too; none is an empty cell, numbers are bare, text is UTF-8."""
    assert encode_csv_rows([["a", None, 12, "é"], ["", 0, None, "z"]]) == "a,,12,é\r\n,0,,z\r\n".encode()
    assert encode_csv_rows([]) == b""


def test_files_for_excel() -> None:
    """A file for Excel begins with a byte order mark, and quotes cells with its own delimiter."""
    assert encode_csv_head(["a", "b"], "semicolon") == b"\xef\xbb\xbfa;b\r\n"
    assert encode_csv_head(["a", "b"], "comma") == b"\xef\xbb\xbfa,b\r\n"
    assert encode_csv_head(["a", "b"], None) == b"a,b\r\n"
    assert encode_csv_rows([["a,b", "c;d", "=1"]], "semicolon") == b'a,b;"c;d";\'=1\r\n'


async def test_times_for_excel() -> None:
    """Times are of the zone, without an offset; the last hours of the year 9999, which no zone east of UTC has, are in
    UTC. What only looks like a time or an amount stays."""

    async def pages() -> AsyncIterator[list[list[str | None]]]:
        yield [
            ["2026-07-01T00:00:00.123Z", None, "2026-07-01T00:00:00.123Z", "1.50"],
            ["2026-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z", "", "2.50"],
        ]

    style = CsvStyle("comma", "Europe/Berlin")
    columns = ["redeemedAt", "expiresAt", "orderId", "discountAmount"]
    pieces = [piece async for piece in encode_csv_pages(columns, pages(), list, style)]
    assert b"".join(pieces).decode("utf-8-sig").splitlines()[1:] == [
        "2026-07-01 02:00:00,,2026-07-01T00:00:00.123Z,1.50",
        "2027-01-01 00:59:59,9999-12-31 23:59:59,,2.50",
    ]


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("a,b", b'"a,b"'), ('a"b', b'"a""b"'), ("a\nb", b'"a\nb"'), ("a\rb", b'"a\rb"'), (" a ", b" a "),
        ('"', b'""""'),
        ("=1+1", b"'=1+1"), ("+1", b"'+1"), ("-1", b"'-1"), ("@SUM(A1)", b"'@SUM(A1)"), ("\t=1", b"'\t'=1"),
        ("\r=1", b"\"'\r'=1\""), ("\n=1", b"\"'\n'=1\""), ('=HYPERLINK("x","y")', b'"\'=HYPERLINK(""x"",""y"")"'),
        ("=a,b", b"\"'=a,b\""), ('-"', b'"\'-"""'), ("a=1", b"a=1"), ("'=1", b"'=1"), ("1-1", b"1-1"), (-1, b"-1"),
        ("a;=1+1", b"a;'=1+1"), ("a|-1", b"a|'-1"), ("a;b", b"a;b"), ("a; +1", b"a; +1"),
    ],
)  # fmt: skip
def test_hostile_cells(cell: str | int, written: bytes) -> None:
    """A cell with a separator, quote or line end is quoted; a formula gets a leading ', also within quotes."""
    assert encode_csv_rows([["x", cell, "y"]]) == b"x," + written + b",y\r\n"


_CELL = st.text("ab=+-@＝;,|\t\r\n\"' 1", max_size=8)


_ROWS = st.lists(st.lists(_CELL, min_size=3, max_size=3), min_size=1, max_size=2)


@given(_ROWS, st.sampled_from([None, "comma", "semicolon"]))
def test_no_cell_is_a_formula_at_any_separator(rows: list[list[str]], excel: Excel) -> None:
    """At each usual separator, with quotes or without, no cell of a split line is a formula."""
    text = encode_csv_rows(rows, excel).decode()
    for separator in ",;|\t":
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
            for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting):
                assert not [cell for cell in row if cell.startswith(("=", "+", "-", "@", "＝"))], (separator, row)
