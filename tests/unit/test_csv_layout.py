"""The layout of a CSV upload: delimiter, header and columns, from the first bytes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.domain.errors import BadField
from service.server.requests.csv_layout import CsvOptions, Layout, detect_layout


def detect(text: str | bytes, *, is_whole: bool = True, **options: Any) -> Layout:
    return detect_layout(text.encode() if isinstance(text, str) else text, is_whole, CsvOptions(**options))


@pytest.mark.parametrize(
    ("text", "delimiter", "fields"),
    [
        ("code\nABCD\n", "comma", "code"),
        ("code,userId\nABCD,u;1\n", "comma", "code userId"),
        ("code;userId\r\nABCD;u,1\r\n", "semicolon", "code userId"),
        ("Code\tExpires At\nABCD\t\n", "tab", "code expiresAt"),
        ("customer_id|Voucher-Code|valid.until|MAX USES", "pipe", "userId code expiresAt maxRedemptions"),
        ('"coupon code";"user"\n"AB;CD";"a,b"\n', "semicolon", "code userId"),
        ('"code","a,b;c"\n', "comma", "code -"),
        ('code,"user\nid"\nABCD,u\n', "comma", "code -"),
        ("\n\r\ncode;userId\n", "semicolon", "code userId"),
        ("code,a;b;c;d\nABCD,1;2;3;4\n", "comma", "code -"),
        ("ÜCODE;code\nx;ABCD\n", "semicolon", "- code"),
        ("code,b;c\nAB12;u\nAB13;v\n", "comma", "code -"),
    ],
)
def test_named_columns(text: str, delimiter: str, fields: str) -> None:
    """The delimiter is the one that gives known names, and names are compared without case, spaces and signs."""
    layout = detect(text, unknown_columns="ignore")
    assert (layout.problem, layout.has_header, layout.has_bom, layout.delimiter) == (None, True, False, delimiter)
    assert [column.field or "-" for column in layout.columns] == fields.split()


@pytest.mark.parametrize(
    "text", ["SALE-01\nSALE-02\n", "sale1", "\nAB12\r\nXYZXYZ\r\nCD34\r\n", '"SALE-01"\n"SALE-02"']
)
def test_codes_without_a_header(text: str) -> None:
    """One column whose first line looks like the codes below has no header."""
    layout = detect(text)
    assert (layout.problem, layout.has_header) == (None, False)
    assert [(column.name, column.field) for column in layout.columns] == [(None, "code")]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is missing; the file is empty"),
        ("\n\n", "is missing; the file is empty"),
        ("colour\nred\n", "has no column `code`"),
        ("Column1\nSALE-0001\nSALE-0002\n", "has no column `code`"),
        ("ABCD\nEFGH\n", "has no column `code`"),
        ("SALE-01,u1\nSALE-02,u2\n", "is missing; name the fields"),
        ("code,colour,size,shape,weight\n", 'has unknown columns: "colour", "size", "shape" …;'),
        ("code,Voucher\n", 'has two columns for code, "code" and "Voucher"'),
        ("code,code\n", "has two columns for code"),
        ("code," + "x" * 2000, "is longer than 1024 bytes"),
        (b"PK\x03\x04\x14\x00", "can't be read: the file is an Excel workbook or a ZIP archive; save it as CSV"),
        (b"\x1f\x8b\x08\x00", "can't be read: the file is compressed with gzip; decompress it"),
    ],
)
def test_files_that_are_refused(text: str | bytes, problem: str) -> None:
    """A file is refused whole if its columns can't be mapped, with a sentence that says what to do."""
    assert (detect(text).problem or "").startswith(problem)


@pytest.mark.parametrize(
    ("text", "options", "has_header", "fields"),
    [
        ("SALE-01,u1\nSALE-02,u2\n", {"columns": "code,userId"}, False, "code userId"),
        ("Gutschein;Kunde 1\nSALE-01;u1\n", {"columns": "-,code", "delimiter": "semicolon"}, True, "- code"),
        ("code,colour\n", {"columns": "code,-"}, True, "code -"),
        ("code,user\n", {"columns": "userId,code", "header": True}, True, "userId code"),
        ("user,code\nann,ABCD\n", {"columns": "userId,code"}, True, "userId code"),
        ("Coupon code,user,x\nABCD,ann,\n", {"columns": "code,-,userId"}, True, "code - userId"),
        ("VOUCHER\nABCD\n", {"columns": "code"}, True, "code"),
        ("SALE-01,customer\nSALE-02,ann\n", {"columns": "code,userId"}, False, "code userId"),
        ("SALE-01,user\n", {"columns": "code,userId"}, False, "code userId"),
        ("customer,SALE-01\nann,SALE-02\n", {"columns": "userId,code"}, False, "userId code"),
        ("SALE-01,code\nSALE-02,x\n", {"columns": "code,-"}, False, "code -"),
        ("code,SALE-01\nx,SALE-02\n", {"columns": "-,code"}, False, "- code"),
        ("ABCD\nEFGH\n", {"header": False}, False, "code"),
        ("code\nEFGH\n", {"header": False}, False, "code"),
        ("a,b\tc\n", {"delimiter": "tab", "columns": "-,code", "header": False}, False, "- code"),
    ],
)
def test_what_the_client_says(text: str, options: dict[str, Any], has_header: bool, fields: str) -> None:
    """The client's delimiter, header and columns replace what would be detected."""
    layout = detect(text, **options)
    assert (layout.problem, layout.has_header) == (None, has_header)
    assert [column.field or "-" for column in layout.columns] == fields.split()


def test_columns_that_do_not_fit() -> None:
    """Columns of another number are refused, and a first line that may be a header or a code."""
    assert detect("code,a\n", columns="code").problem == "has 2 columns, but `columns` names 1"
    for text, columns in (
        ("ABCD,x\nEFGH,y\n", "code,-"),
        ("CODE,ann\nABCD,bob\n", "code,userId"),
        ("PROMO,customer,1\nABCD,bob,2\n", "code,userId,maxRedemptions"),
        ("ANNA,user\nOTTO,user\n", "code,-"),
        ("code,user\n", "userId,code"),
    ):
        assert "may be a line with a code" in (detect(text, columns=columns).problem or "")
        assert detect(text, columns=columns, header=False).problem is None


@pytest.mark.parametrize("columns", ["", "-", "userId", "code,code", "code,colour", "code,userId,userId", "Code"])
def test_bad_columns(columns: str) -> None:
    """Columns have the code once, and only known fields."""
    with pytest.raises(BadField, match="columns"):
        CsvOptions(columns=columns)


def test_examples() -> None:
    """A column has its name and its first value; a byte order mark belongs to neither."""
    layout = detect(b"\xef\xbb\xbfcode;Kunde\nABCD;\nEFGH;" + b"u" * 200 + b"\n", unknown_columns="ignore")
    assert (layout.has_bom, layout.delimiter) == (True, "semicolon")
    assert [(column.name, column.example) for column in layout.columns] == [("code", "ABCD"), ("Kunde", "u" * 100)]


def test_the_last_line_of_a_start_is_left_out() -> None:
    """A line that is cut off does not count, unless it is the only one."""
    assert [column.example for column in detect("code,user\nABCD,u", is_whole=False).columns] == [None, None]
    assert detect("code,user", is_whole=False).problem is None
    cut = detect("code,user\nABCD,ü".encode()[:-1], is_whole=False)
    assert (cut.problem, cut.encoding) == (None, "utf-8")


@given(st.binary(max_size=300) | st.text(st.sampled_from('code,;\t|"\r\n userId1A'), max_size=80), st.booleans())
def test_any_bytes(data: str | bytes, is_whole: bool) -> None:
    """Any bytes give a layout with one column for the code, or a problem."""
    layout = detect(data, is_whole=is_whole)
    assert layout.problem or [column.field for column in layout.columns].count("code") == 1
