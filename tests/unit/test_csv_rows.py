"""CSV: quoting, line ends, and no cell that a spreadsheet takes for a formula."""

import pytest

from service.api.csv_rows import encode_csv_head, encode_csv_rows


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


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("a,b", b'"a,b"'), ('a"b', b'"a""b"'), ("a\nb", b'"a\nb"'), ("a\rb", b'"a\rb"'), (" a ", b" a "),
        ('"', b'""""'),
        ("=1+1", b"'=1+1"), ("+1", b"'+1"), ("-1", b"'-1"), ("@SUM(A1)", b"'@SUM(A1)"), ("\t=1", b"'\t=1"),
        ("\r=1", b"\"'\r=1\""), ("\n=1", b"\"'\n=1\""), ('=HYPERLINK("x","y")', b'"\'=HYPERLINK(""x"",""y"")"'),
        ("=a,b", b"\"'=a,b\""), ('-"', b'"\'-"""'), ("a=1", b"a=1"), ("'=1", b"'=1"), ("1-1", b"1-1"), (-1, b"-1"),
    ],
)  # fmt: skip
def test_hostile_cells(cell: str | int, written: bytes) -> None:
    """A cell with a separator, quote or line end is quoted; a formula gets a leading ', also within quotes."""
    assert encode_csv_rows([["x", cell, "y"]]) == b"x," + written + b",y\r\n"
