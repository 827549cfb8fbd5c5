"""Uploads: codes and bad lines, however the bytes are cut."""

import csv
import gzip
import io
import json
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.domain.configuration import DiscountRow
from service.engine.domain.decoding import decode
from service.engine.domain.errors import BadField, Refusal
from service.engine.domain.field_types import ID_CHARACTERS
from service.engine.domain.money import CURRENCY_DIGITS
from service.server.requests.code_requests import LINES, CodeLine, Lines, RejectedLine, UploadCodes, parse_list
from service.server.requests.csv_amounts import parse_amount
from service.server.requests.csv_layout import CsvOptions
from service.server.requests.json_codes import MAX_ITEM_BYTES, JsonCodes

_words = st.text(st.sampled_from('ABab09-_",\r\n x'), max_size=12)


def parse(data: bytes, *, as_csv: bool = True, step: int = 1 << 20) -> list[CodeLine | RejectedLine]:
    """The lines of an upload that arrives in parts of `step` bytes."""
    return read_pieces(Lines(as_csv), (data[start : start + step] for start in range(0, len(data), step)))


def read_pieces(parser: Lines | JsonCodes, pieces: Iterable[bytes]) -> list[CodeLine | RejectedLine]:
    results = [line for piece in pieces for some in parser.feed(piece) for line in some]
    return results + [line for some in parser.close() for line in some]


def bad(lines: list[CodeLine | RejectedLine]) -> list[int]:
    return [line.line for line in lines if isinstance(line, RejectedLine)]


def good(lines: list[CodeLine | RejectedLine]) -> list[str]:
    return [line.code for line in lines if isinstance(line, CodeLine)]


def test_csv() -> None:
    """A CSV is parsed with all columns; an empty field is None, and codes become upper case."""
    data = b'code,userId,expiresAt,maxRedemptions\r\nabcd,"u,1",2026-01-01T01:00:00+01:00,5\r\n"EFGH",,,\r\n'
    assert parse(data) == [CodeLine("ABCD", "u,1", 1_767_225_600_000, 5), CodeLine("EFGH")]


def _card(currency: str) -> DiscountRow:
    digits = CURRENCY_DIGITS[currency]
    bounds: Any = {"max_amount_e4": None, "min_order_value_e4": None}
    return DiscountRow(type="balance", value_e4=500_000, currency=currency, digits=digits, **bounds)


def test_amounts_of_cards() -> None:
    """In CSV `amount` is a card's, under one of its usual names; an empty one is left to the book. A limit is invalid,
    and so is an amount in a book without cards."""
    data = b'code;Initial Balance;Max uses\nabcd;"1.234,50";\nEFGH;;\nIJKL;5;1\nMNOP;0;\nQRST;5 USD;\n'
    assert read_pieces(Lines(is_csv=True, card=_card("USD")), [data]) == [
        CodeLine("ABCD", amount_e4=12_345_000),
        CodeLine("EFGH"),
        RejectedLine(4, "IJKL", "maxRedemptions: must be empty: a card can be used while it has a balance", "IJKL;5;1"),
        RejectedLine(5, "MNOP", "amount: must be more than 0", "MNOP;0;"),
        RejectedLine(6, "QRST", "amount: must be an amount such as 25.00, without a currency", "QRST;5 USD;"),
    ]
    reason = "amount: must be empty: the codes of this book are no cards with a balance"
    assert read_pieces(Lines(is_csv=True), [b"code,amount,maxUses\nABCD,5,\nEFGH,,3\n"]) == [
        RejectedLine(2, "ABCD", reason, "ABCD,5,"),
        CodeLine("EFGH", max_redemptions=3),
    ]


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("50", "50"), (" 50.00 ", "50.00"), ("50,5", "50.5"), ("0,500", "0.500"), ("1234.500", "1234.500"),
        ("1,234.50", "1234.50"), ("1.234,50", "1234.50"), ("1'234.50", "1234.50"), ("1\u2019234", "1234"),
        ("1\N{NO-BREAK SPACE}234,5", "1234.5"), ("1\N{NARROW NO-BREAK SPACE}234", "1234"), ("1.234.567", "1234567"),
        ("1,234,567.891", "1234567.891"), ("01.500", "1.500"),
        ("1.000", "write 1000, or 1.00"), ("1,000", "write 1000, or 1.00"), ("999,125", "write 999125, or 999.1250"),
        ("", "such as"), ("-5", "such as"), ("+5", "such as"), ("1e3", "such as"), ("$5", "such as"),
        ("5 EUR", "such as"),
        ("1.23.4", "such as"), ("1,23.4,5", "such as"), ("12.34,5", "such as"), (".5", "such as"), ("5.", "such as"),
        ("1 2", "such as"), ("1,2,3", "such as"), ("\u0665", "such as"), ("NaN", "such as"), ("1,0000.5", "such as"),
    ],
)  # fmt: skip
def test_amounts_of_a_spreadsheet(text: str, amount: str) -> None:
    """An amount is read with either decimal separator, also with its thousands apart; what may be read in two ways is
    refused, and so is what is no amount."""
    if amount[0].isdigit():
        assert parse_amount(text) == Decimal(amount)
    else:
        with pytest.raises(BadField, match=amount):
            parse_amount(text)


def test_columns_in_another_order() -> None:
    """Columns are parsed by their fields, an ignored one not at all; a line that lacks the code's column is bad."""
    options = CsvOptions(unknown_columns="ignore")
    data = b'Customer ID;Note;Voucher code\r\nu,1;a;abcd\r\n;"x;y\nz";EFGH\r\nbad\r\nu 1;;IJKL'
    assert read_pieces(Lines(is_csv=True, options=options), [data]) == [
        CodeLine("ABCD", "u,1"),
        CodeLine("EFGH"),
        RejectedLine(5, "", "line: must have 3 fields", "bad"),
        RejectedLine(6, "IJKL", f"userId: must have {ID_CHARACTERS}, but has a space at position 2", "u 1;;IJKL"),
    ]


def test_text() -> None:
    """Plain text has a code a line, no header, and no quoting."""
    assert parse(b"abcd\nEFGH\r\n\n'x\nlast", as_csv=False) == [
        CodeLine("ABCD"),
        CodeLine("EFGH"),
        RejectedLine(4, "'x", "code: must have 4 to 64 of A-Z a-z 0-9 - _, but has `'` at position 1", "'x"),
        CodeLine("LAST"),
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("step", [1, 2, 5, 7, 1 << 20])
def test_line_breaks(end: str, step: int) -> None:
    """A line ends with LF, CR LF or CR, in both formats and however the bytes are cut; each break counts once."""
    text = end.join(["AB12", "", "bad line", "CD34", '"EF56"', "GH78", ""])
    for as_csv in (True, False):
        lines = parse(text.encode(), as_csv=as_csv, step=step)
        assert good(lines) == ["AB12", "CD34", *(["EF56"] if as_csv else []), "GH78"]
        assert bad(lines) == ([3] if as_csv else [3, 5])
    lines = parse(end.join(["code,userId", "ABCD,u", '"EF\rGH\r\nIJ",u', "KLMN,u,u", "OPQR,"]).encode(), step=step)
    assert (good(lines), bad(lines)) == (["ABCD", "OPQR"], [3, 6])


def test_mixed_line_breaks() -> None:
    """One file may have all three; a CR before CR LF is a line break of its own."""
    for step in range(1, 12):
        lines = parse(b"AB12\rCD34\nEF56\r\nGH78\r\r\nx\n\rIJ90\r", as_csv=False, step=step)
        assert (good(lines), bad(lines)) == (["AB12", "CD34", "EF56", "GH78", "IJ90"], [6])


def test_text_that_is_not_utf_8() -> None:
    """A line that is not UTF-8 is shown as Windows-1252. Its code is bad, but a column that is ignored does no harm."""
    found = "but has `Ü` (latin capital letter u with diaeresis) at position 3"
    reason = f"code: must have 4 to 64 of A-Z a-z 0-9 - _, {found}"
    assert parse(b"AB\xdcCD\nEFGH", as_csv=False) == [
        RejectedLine(1, "AB\xdcCD", reason, "AB\xdcCD"),
        CodeLine("EFGH"),
    ]
    options = CsvOptions(unknown_columns="ignore")
    data = b"code,size\nABCD,small\nEFGH,gro\xdf\n"
    assert good(read_pieces(Lines(is_csv=True, options=options), [data])) == ["ABCD", "EFGH"]


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("step", [1, 3, 1 << 20])
def test_utf_16(codec: str, step: int) -> None:
    """A file in UTF-16 with a byte order mark is read however it is cut; half a character at the end is a bad line."""
    data = ("\ufeffcode\tuserId\r\nABCD\t\r\nEFGH\tu\U0001f600\r\nIJKL\t").encode(codec)
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    lines = Lines(is_csv=True)
    results = read_pieces(lines, pieces)
    assert (good(results), bad(results)) == (["ABCD", "IJKL"], [3])
    assert lines.layout
    assert (lines.layout.encoding, lines.layout.has_bom, lines.layout.delimiter) == ("utf-16", True, "tab")
    results = read_pieces(Lines(is_csv=True), [*pieces, b"\n"])
    assert (good(results), bad(results)) == (["ABCD"], [3, 4])
    with pytest.raises(Refusal, match="malformed") as caught:
        read_pieces(JsonCodes(), pieces)
    assert "is in UTF-16" in caught.value.errors[0].reason
    text = ("\ufeffAB12\r" + "x" * 9_000 + "\rCD34").encode(codec)
    results = parse(text, as_csv=False, step=step)
    assert (good(results), bad(results)) == (["AB12", "CD34"], [2])


_FILES = (
    ("an Excel workbook or a ZIP archive", b"PK\x03\x04\x14\x00\x06\x00\x08\x00\n\x00"),
    ("an old Excel workbook", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\x00\x00\x00\x00"),
    ("compressed with gzip", gzip.compress(b"code\nABCD\n" * 300, mtime=0)),
)


@pytest.mark.parametrize(("kind", "data"), _FILES)
@pytest.mark.parametrize("step", [1, 3, 1 << 20])
def test_files_that_are_no_text(kind: str, data: bytes, step: int) -> None:
    """A file that is no text is refused whole by what it is, as CSV, as text and as JSON, however it is cut."""
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    for parser in (Lines(is_csv=True), Lines(is_csv=False), JsonCodes()):
        with pytest.raises(Refusal, match="malformed") as caught:
            read_pieces(parser, pieces)
        (error,) = caught.value.errors
        assert error.field == ("header" if isinstance(parser, Lines) and parser.layout else "body")
        assert f" is {kind}" in error.reason


@pytest.mark.parametrize("data", [b"PK", b"PK12", b"AB", b"", b"PK-1\nPKPK-2\n", b"ABCD", b"ABCDE\nFGHI"])
@pytest.mark.parametrize("step", [1, 3, 1 << 20])
def test_short_texts_are_read(data: bytes, step: int) -> None:
    """A text that is shorter than the beginnings of files is read, however it is cut."""
    assert parse(data, as_csv=False, step=step) == list(parse_list(data.decode().split()))


def test_a_bom_is_no_part_of_the_first_line() -> None:
    """A byte order mark is skipped in both formats, also when it arrives in pieces."""
    assert good(parse(b"\xef\xbb\xbfcode\nABCD", step=1)) == ["ABCD"]
    assert good(parse(b"\xef\xbb\xbfABCD", as_csv=False, step=2)) == ["ABCD"]


@pytest.mark.parametrize(
    "header",
    [b"", b"\n", b"userId\n", b"code,Voucher\n", b"code,colour\n", b'"code\nABCD\n', b'code,"userId\n' * 40],
)
def test_bad_headers(header: bytes) -> None:
    """A CSV with an unknown header is refused as a whole."""
    with pytest.raises(Refusal, match="malformed") as caught:
        parse(header)
    assert caught.value.errors[0].field == "header"


@pytest.mark.parametrize(
    "line",
    [
        b"ABC,u,,",
        b"ABCD",
        b"ABCD,u,,5,6",
        b"lock,u,,",
        b"ABCD,two words,,",
        b"ABCD,u,tomorrow,",
        b"ABCD,u,46022,",
        b"ABCD,u,9999-12-31T23:59:59-14:00,",
        b"ABCD,u,,0",
        b"ABCD,u,,2147483648",
        "ABCD,u,,٣".encode(),
        b'"ABCD"x,u,,',
        b'"ABCD,u,,',
        b"\xffABCD,u,,",
        "ÄBCD,u,,".encode(),
        b"A" * 5000 + b",u,,",
        b"AB\x00CD,u,,",
    ],
)
def test_a_bad_line_leaves_the_others_alone(line: bytes) -> None:
    """A bad line is reported by its number, and the lines around it are accepted."""
    lines = parse(b"code,userId,expiresAt,maxRedemptions\nAAAA,,,\n" + line + b"\nBBBB,,,\nCCCC,,,")
    assert (good(lines), bad(lines)) == (["AAAA", "BBBB", "CCCC"], [3])
    bad_line = next(line for line in lines if isinstance(line, RejectedLine))
    assert len(bad_line.code) <= 100


def test_a_quoted_field_may_go_on_over_lines() -> None:
    """A quoted field with line breaks is one record, numbered by its first line."""
    lines = parse(b'code,userId\n"AB\nGOOD\nCD",u\nEFGH,u\nbad,u\n')
    assert (good(lines), bad(lines)) == (["EFGH"], [2, 6])


def test_a_quote_that_never_ends_costs_one_line() -> None:
    """An open quote makes one bad line, and the lines after it are accepted."""
    lines = parse(b'code\n"ABCD\n' + b"".join(b"CODE%d\n" % number for number in range(500)))
    assert (len(good(lines)), bad(lines)) == (500, [2])


def test_an_endless_line_takes_no_memory() -> None:
    """A line without end takes less than 2 KiB of memory."""
    lines = Lines(is_csv=True)
    assert not any(lines.feed(b"code\n"))
    for _ in range(64):
        assert not any(lines.feed(b"x" * 65536))
        assert len(lines._rest) < 2048
    results = read_pieces(lines, [b"\nABCD\n"])
    assert (good(results), bad(results)) == (["ABCD"], [2])


@given(
    st.lists(st.lists(_words, min_size=2, max_size=2), max_size=20),
    st.integers(1, 50),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_quoting_is_that_of_rfc_4180(rows: list[list[str]], step: int, end: str) -> None:
    """The parser restores every field that a CSV writer quotes, however the bytes are cut."""
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator=end).writerows(rows)
    lines = parse(b"code,userId\n" + written.getvalue().encode(), step=step)
    expected = [next(iter(parse_list([code]))) for code, _ in rows]
    assert len(lines) == len(rows)
    for (code, user), line, alone in zip(rows, lines, expected, strict=True):
        if isinstance(line, CodeLine):
            assert isinstance(alone, CodeLine)
            assert (line.code, line.owner_id or "") == (code.upper(), user)
        elif isinstance(alone, CodeLine):
            assert user
            assert line.reason.startswith("userId")


def test_json_codes_are_numbered_from_1() -> None:
    """A JSON upload's errors name positions from 1."""
    lines = list(parse_list(["abcd", "", "x" * 1000, "user-specific"]))
    assert (good(lines), bad(lines)) == (["ABCD"], [2, 3, 4])
    assert [len(line.code) for line in lines if isinstance(line, RejectedLine)] == [0, 100, 13]


@given(
    st.lists(
        st.sampled_from(["abcd", "AB-1_", "LOCK", "lock", "abc", "A" * 64, "A" * 65, "AB CD", "ab,cd", "Äbcd", "é"])
    ),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.integers(1, 50),
)
def test_lines_at_once_are_read_as_one_by_one(codes: list[str], end: str, step: int) -> None:
    """However the bytes are cut, each line gives the same result as on its own."""
    assert parse(end.join(codes).encode(), as_csv=False, step=step) == list(parse_list(codes))


@pytest.mark.parametrize("line", [b"!\n", b"ab,user 1\n", b'"\n'])
def test_bad_lines_come_in_small_pieces(line: bytes) -> None:
    """However many lines are fed at once, a piece has at most LINES of them."""
    lines = Lines(is_csv=line != b"!\n")
    pieces = [*lines.feed(b"code,userId\n" + line * 5_000), *lines.close()]
    assert sum(map(len, pieces)) >= 2_500
    assert max(map(len, pieces)) <= 2 * LINES


def _read_json(body: bytes, step: int) -> list[CodeLine | RejectedLine] | list[str]:
    """The cards of a JSON upload that arrives in parts, or what its refusal says, without positions."""
    try:
        return read_pieces(JsonCodes(_card("USD")), (body[start : start + step] for start in range(0, len(body), step)))
    except Refusal as refusal:
        return [re.sub(r" \(byte \d+\)", "", reason) for error in refusal.errors for reason in error]


def _decode_json(body: bytes) -> list[CodeLine | RejectedLine] | list[str]:
    try:
        return list(parse_list(decode(msgspec.json.Decoder(UploadCodes), body).codes, card=_card("USD")))
    except Refusal as refusal:
        return [re.sub(r" \(byte \d+\)", "", reason) for error in refusal.errors for reason in error]


_JSON = """
|[]|null|{}|{"codes":null}|{"codes":[]}|{"codes":[1]}|{"codes":["a",null]}|{"codes":["abcd",2,3]}|{"codes":["a",["b"]]}
|{"codes":[{"code":"a"}]}|{"codes":["a",]}|{"codes":[,"a"]}|{"codes":["a",,"b"]}|{"codes":["a" "b"]}|{"codes":["a"],}
|{"codes":["abcd"],"x":1}|{"codes":["abcd"]}x|{"codes":["abcd"|{"codes":["abcd","e\\
|{"c\\u006fdes":["abcd"]}|{"codes":["\\ud800"]}|{"codes":["abcd","\\u0041BCD","\\"\\\\"]}
| { "codes" : [ "abcd" , "efgh" ] }
|{"x":1,"codes":["abcd"]}|{"codes":["\x01"]}|{"codes":["abcd","efgh"]}
|{"codes":[{"code":"abcd"},"efgh",{"amount":"1.50","code":"ij}]\\""},{"code":"klmn","amount":2.5}]}|{"codes":[{}]}
|{"codes":[ {"code" : "abcd", "amount" : null } ]}|{"codes":[{"code":"ab","amount":{}}]}|{"codes":[{"code":"a","x":1}]}
|{"codes":[{"code":"abcd","amount":[1]}]}|{"codes":[{"code":"abcd","amount":true}]}|{"codes":[{"code":5,"amount":5}]}
|{"codes":[{"code":"abcd","amount":"1e2"},{"code":"abcd","amount":1e2},{"code":"abcd","amount":"x"}]}|{"codes":[{"code":"a
|{"codes":["abcd",{"code":"abcd"]}|{"codes":["abcd",{]}|{"codes":[{"code":"abcd",}]}|{"codes":[{"code":"abcd"},]}
"""


@pytest.mark.parametrize("body", [*_JSON.replace("\n", "").split("|"), *_JSON.strip().split("\n")])
@pytest.mark.parametrize("step", [1, 2, 7, 1_000])
def test_json_in_pieces(body: str, step: int) -> None:
    """A JSON upload in pieces has the codes, or the refusal, of one that is decoded whole."""
    assert _read_json(body.encode(), step) == _decode_json(body.encode())


@given(st.lists(st.text(max_size=8)), st.integers(1, 20), st.booleans())
def test_any_texts_in_json(codes: list[str], step: int, is_ascii: bool) -> None:
    """Any list of texts gives the same lines in pieces as whole, escaped or not."""
    body = json.dumps({"codes": codes}, ensure_ascii=is_ascii).encode()
    assert _read_json(body, step) == list(parse_list(codes))


@pytest.mark.parametrize(
    ("amount", "currency", "e4"),
    [
        ("50", "USD", 500_000), ('"50.5"', "USD", 505_000), ("0.01", "USD", 100), ("1e1", "USD", 100_000),
        ('"99999999999.990"', "USD", 999_999_999_999_900), ("1.234", "KWD", 12_340), ("null", "USD", None),
        ('"1.234"', "USD", "at most 2 digits"), ("0", "USD", "more than 0"), ('"-0"', "USD", "more than 0"),
        ("-5", "USD", "0 or more"), ('"1e1"', "USD", "decimal number"), ('" 5"', "USD", "decimal number"),
        ('"1_0"', "USD", "decimal number"), ("100000000000", "USD", "below"), ("null", "", None),
        ('"5"', "", "no cards"), ('"' + "0" * 101 + '"', "USD", "decimal number"),
    ],
)  # fmt: skip
def test_amount_in_json(amount: str, currency: str, e4: int | str | None) -> None:
    """A card's amount is above 0, in the currency's digits; another, and one in a book without cards, is invalid."""
    card = _card(currency) if currency else None
    body = b'{"codes":[{"code":"abcd","amount":%s}]}' % amount.encode()
    (line,) = read_pieces(JsonCodes(card), [body])
    if isinstance(e4, str):
        assert isinstance(line, RejectedLine)
        assert (line.line, line.code, line.text) == (1, "abcd", body[10:-2].decode())
        assert line.reason.startswith("amount: must be ") or "must have at most" in line.reason
        assert e4 in line.reason
    else:
        assert line == CodeLine("ABCD", amount_e4=e4)


def test_json_that_is_not_utf_8() -> None:
    """The bytes of a list must be UTF-8."""
    assert _read_json(b'{"codes":["abcd","\xff"]}', 100) == _decode_json(b'{"codes":["abcd","\xff"]}')


def test_json_beyond_its_bounds() -> None:
    """A list given twice, an endless item and an endless beginning or end are refused; what is kept is bounded."""
    for again in (b"[]", b'["efgh"]', b"null"):
        assert "codes" in _read_json(b'{"codes":["abcd"],"codes":%s}' % again, 100)
    long = b"x" * (MAX_ITEM_BYTES * 2)
    assert _read_json(b'{"codes":["abcd","' + long + b'"]}', 16_384) == ["codes[1]", "is longer than 65,536 bytes"]
    assert _read_json(b" " * 2_000 + b'{"codes":["abcd"]}', 100) == ["body", 'must begin with {"codes": [']
    after = ["body", "has more than 1,024 bytes after the list of codes"]
    assert _read_json(b'{"codes":["abcd"]' + b" " * 2_000 + b"}", 100) == after
