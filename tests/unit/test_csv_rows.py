"""CSV: read back by another's reader it is what was written, and no cell is a formula."""

import pytest

from service.api.csv_rows import encode_csv_rows


def test_rows() -> None:
    """Rows end in CRLF, the last one too; none is an empty cell, numbers are bare, text is UTF-8."""
    assert encode_csv_rows([["a", None, 12, "é"], ["", 0, None, "z"]]) == "a,,12,é\r\n,0,,z\r\n".encode()
    assert encode_csv_rows([]) == b""


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
    """What has a separator, quote or line end is quoted; what would be a formula begins with ', also within quotes."""
    assert encode_csv_rows([["x", cell, "y"]]) == b"x," + written + b",y\r\n"
