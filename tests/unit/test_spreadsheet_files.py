"""Files as spreadsheets write them are read right, or refused with a question; none is read wrong in silence."""

import csv
import io
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from itertools import product
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.domain.errors import BadField, Refusal
from service.engine.domain.times import from_ms
from service.server.requests.code_requests import CodeLine, Lines, RejectedLine
from service.server.requests.csv_layout import DELIMITERS, CsvOptions, Delimiter
from tests.unit.test_codes import read_pieces


class Locale(NamedTuple):
    """How a spreadsheet of this language writes a date, the time of day after it, and an amount."""

    zone: str
    code_page: str
    date: Callable[[date], str]
    time: Callable[[time], str]
    amount: str
    note: str


def _half_day(at: time) -> str:
    return f"{at.hour % 12 or 12}:{at.minute:02}:{at.second:02} {'PM' if at.hour >= 12 else 'AM'}"


LOCALES = {
    "en-US": Locale(
        "America/New_York", "cp1252", lambda d: f"{d.month}/{d.day}/{d.year}", _half_day, "1,234.50", "café “new”"
    ),
    "en-GB": Locale("Europe/London", "cp1252", lambda d: f"{d:%d/%m/%Y}", lambda t: f"{t:%H:%M}", "£1,234.50", "naïve"),
    "de-DE": Locale(
        "Europe/Berlin", "cp1252", lambda d: f"{d:%d.%m.%Y}", lambda t: f"{t:%H:%M:%S}", "1.234,50 €", "Größe: L"
    ),
    "fr-FR": Locale(
        "Europe/Paris", "cp1252", lambda d: f"{d:%d/%m/%Y}", lambda t: f"{t:%H:%M}", "1\xa0234,50", "été | hiver"
    ),
    "sv-SE": Locale("Europe/Stockholm", "cp1252", lambda d: f"{d}", lambda t: f"{t:%H:%M}", "4,50", "Ångström; rå"),
    "ja-JP": Locale(
        "Asia/Tokyo", "cp932", lambda d: f"{d.year}/{d.month}/{d.day}", lambda t: f"{t.hour}:{t:%M}", "1,234", "ポ"
    ),
    "hu-HU": Locale(
        "Europe/Budapest", "cp1250", lambda d: f"{d:%Y. %m. %d.}", lambda t: f"{t.hour}:{t:%M:%S}", "12,50", "ősz\nűr"
    ),
}  # fmt: skip
CLOCKS_CHANGE = "expiresAt: is when clocks change in Europe/Berlin; write it as RFC 3339, with an offset"
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "code page")
DAYS = (date(2026, 12, 31), date(2026, 2, 1), date(2028, 2, 29), date(2026, 11, 9))
MOMENTS = (datetime(2026, 7, 4, 23, 30), datetime(2027, 1, 2, 0, 0), datetime(2027, 1, 2, 12, 5))  # noqa: DTZ001
FILES = [
    (language, delimiter, encoding, ("\r\n", "\n", "\r")[number % 3])
    for number, (language, delimiter, encoding) in enumerate(product(LOCALES, DELIMITERS, ENCODINGS))
]


def read(data: bytes, **options: Any) -> tuple[list[CodeLine | RejectedLine], Lines]:
    """The lines of a file, and their parser."""
    parser = Lines(is_csv=True, options=CsvOptions(unknown_columns="ignore", **options))
    return read_pieces(parser, [data[start : start + 1000] for start in range(0, len(data), 1000)]), parser


def ask(data: bytes, **options: Any) -> str:
    """The field that a file is refused for."""
    with pytest.raises(Refusal, match="malformed") as caught:
        read(data, **options)
    (error,) = caught.value.errors
    return error.field


def read_times(texts: list[str], **options: Any) -> list[str]:
    """What a column of expiries is read as, or why not."""
    lines, _ = read("\n".join(["code;expires", *(f"CODE{text and ';'}{text}" for text in texts)]).encode(), **options)
    return [from_ms(line.expires_ms or 0) if isinstance(line, CodeLine) else line.reason for line in lines]


def _in_zone(at: datetime, zone: str) -> int:
    return round(at.replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def _write(locale: Locale, delimiter: str, end: str) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end)
    note = locale.note.replace("\n", end)
    writer.writerow(["Code", f"Note {locale.note[:2]}", "Valid until", "Price", "Customer ID"])
    for number, day in enumerate(DAYS):
        writer.writerow([f"DAY-{number}", note, locale.date(day), locale.amount, ""])
    for number, at in enumerate(MOMENTS):
        text = f"{locale.date(at.date())} {locale.time(at.time())}"
        writer.writerow([f"moment-{number}", note, text, locale.amount, "user-1"])
    writer.writerow(["NONE", "", "", "", ""])
    writer.writerow(["KNOWN", "", "2026-12-31T00:00:00+05:30", "", ""])
    return out.getvalue()


@pytest.mark.parametrize(("language", "delimiter", "encoding", "end"), FILES)
def test_files_of_all_languages(language: str, delimiter: Delimiter, encoding: str, end: str) -> None:
    """Each of 140 files, by language, delimiter and encoding, with each end of a line, has its codes and times, or is
    refused until the client names the delimiter."""
    locale = LOCALES[language]
    data = _write(locale, DELIMITERS[delimiter], end).encode(locale.code_page if encoding == "code page" else encoding)
    options = {"time_zone": locale.zone}
    if (delimiter, encoding) == ("pipe", "code page"):
        assert ask(data) == "header"
        if language == "ja-JP":  # ポ has the byte of a pipe
            return
        options["delimiter"] = delimiter
    lines, parser = read(data, **options)
    ends = [datetime.combine(day, time(23, 59, 59, 999_000)) for day in DAYS]
    assert lines == [
        *(CodeLine(f"DAY-{number}", None, _in_zone(at, locale.zone)) for number, at in enumerate(ends)),
        *(CodeLine(f"MOMENT-{number}", "user-1", _in_zone(at, locale.zone)) for number, at in enumerate(MOMENTS)),
        CodeLine("NONE"),
        CodeLine("KNOWN", None, 1_798_655_400_000),
    ]
    layout = parser.layout
    assert layout is not None
    assert layout.dates is not None
    order = {"en-US": "mdy", "en-GB": "dmy", "de-DE": "dmy", "fr-FR": "dmy"}.get(language, "ymd")
    assert (layout.delimiter, layout.has_header, layout.dates.order) == (delimiter, True, order)
    assert (layout.dates.example, layout.dates.read_as) == (
        locale.date(DAYS[0]),
        from_ms(_in_zone(ends[0], locale.zone)),
    )
    named = {"utf-8-sig": "utf-8", "code page": "windows-1252"}
    assert layout.encoding == named.get(encoding, encoding)
    assert layout.has_bom == (encoding in ("utf-8-sig", "utf-16"))


@pytest.mark.parametrize(
    ("dates", "field"),
    [
        (["01.02.2026", "03.04.2026"], "dates"),
        (["1/2/2026"], "dates"),
        (["11/11/2026"], "dates"),
        (["31.12.26"], "dates"),
        (["26-12-31"], "dates"),
        (["31.12.2026", "12/31/2026"], "dates"),
        (["", "2026-12-31T00:00:00Z", "02/03/2026"], "dates"),
        (["2026-12-31", "02/03/2026"], "dates"),
        (["01.12.2030", "12/31/2030"], "dates"),
        (["12/31/2030", "01.12.2030"], "dates"),
        (["31.12.2030", "01/12/2030"], "dates"),
        (["31.12.2030", "01-12-2030"], "dates"),
        (["32/33/2026"], "dates"),
        (["31.12.2026", "01.02.2026"], "timeZone"),
        (["2026-12-31"], "timeZone"),
        (["2026-12-31 23:59"], "timeZone"),
    ],
)
def test_questions(dates: list[str], field: str) -> None:
    """A column whose order of day and month is open, or whose zone, refuses the file until the client sends that."""
    data = "\n".join(["code;expires", *(f"CODE;{text}" for text in dates)]).encode()
    zone = {"time_zone": "Europe/Berlin"} if field == "dates" else {}
    assert ask(data, **zone) == field
    results = read_times(dates, dates="dmy", time_zone="Europe/Berlin")
    assert not any(result.startswith("expiresAt: has no") for result in results)
    assert ask(data) == field


@pytest.mark.parametrize(
    ("text", "options", "result"),
    [
        ("01.02.2026", {"dates": "dmy"}, "2026-02-01T22:59:59.999Z"),
        ("01.02.2026", {"dates": "mdy"}, "2026-01-02T22:59:59.999Z"),
        ("1-2-26", {"dates": "dmy"}, "2026-02-01T22:59:59.999Z"),
        ("26/2/1", {"dates": "ymd"}, "2026-02-01T22:59:59.999Z"),
        ("2026-02-01", {"dates": "mdy"}, "2026-02-01T22:59:59.999Z"),
        ("31.12.2026 23.59", {}, "2026-12-31T22:59:00.000Z"),
        ("31.12.2026, 23:59:58,5", {}, "2026-12-31T22:59:58.500Z"),
        ("12/31/2026 12:00\u202fa.m.", {}, "2026-12-30T23:00:00.000Z"),
        ("12/31/2026 12:00 pm", {}, "2026-12-31T11:00:00.000Z"),
        ("2026-07-01T00:00:00.123456", {}, "2026-06-30T22:00:00.123Z"),
        ("31.12.2026", {"dates": "mdy"}, "expiresAt: must be a date that exists, in the order month, day, year"),
        ("31.12.2026", {"dates": "ymd"}, "expiresAt: must be a date that exists, in the order year, month, day"),
        ("2026-31-12", {}, "expiresAt: must be a date that exists, in the order year, month, day"),
        ("2026-02-29", {}, "expiresAt: must be a date that exists, in the order year, month, day"),
        ("31.12.1969", {}, "expiresAt: must be from 1970 to 9999"),
        ("31.12.202", {"dates": "dmy"}, "expiresAt: must be from 1970 to 9999"),
        ("31/12/2569", {}, "expiresAt: must have a year of the Gregorian calendar"),
        ("31.12.2026 24:00", {}, "expiresAt: must have a time from 00:00 to 23:59:59"),
        ("31.12.2026 13:00 PM", {}, "expiresAt: must have a time from 00:00 to 23:59:59"),
        ("31-Dec-2026", {}, "expiresAt: must be an RFC 3339 time, or a date such as 31.12.2026"),
        ("46387", {}, "expiresAt: must be an RFC 3339 time, or a date such as 31.12.2026"),
        ("31.12/2026", {}, "expiresAt: must be an RFC 3339 time, or a date such as 31.12.2026"),
        ("2026-03-29 02:30", {}, CLOCKS_CHANGE),
        ("25.10.2026 02:30", {}, CLOCKS_CHANGE),
    ],
)  # fmt: skip
def test_forms_of_dates(text: str, options: dict[str, Any], result: str) -> None:
    """Each form is one time, in the zone of the file, or an invalid line whose reason says what to write."""
    assert read_times([text], **options, time_zone="Europe/Berlin") == [result]


def test_dates_that_differ_from_the_first_ones() -> None:
    """Beyond the first 16 KiB a date of another order is an invalid line, and so is one of a form that was not asked
    for; the other lines are added."""
    late = ["01/02/2026", "01.02.2026", "01.02.27", "2026-02-01"]
    results = read_times([*["31.12.2026"] * 2000, *late], time_zone="UTC")[2000:]
    assert results == [
        "expiresAt: has no offset: send `dates`, or add one",
        "2026-02-01T23:59:59.999Z",
        "expiresAt: must have a year of four digits, unless `dates` is sent",
        "2026-02-01T23:59:59.999Z",
    ]
    late = ["2026-02-01", "01.02.2026"]
    first = ["2026-12-31T00:00:00Z"] * 2000
    assert read_times([*first, *late])[2000:] == [
        "expiresAt: has no offset: send `timeZone`, or add one",
        "expiresAt: has no offset: send `dates` and `timeZone`, or add one",
    ]
    assert read_times([*["2026-12-31"] * 2000, *late], time_zone="UTC")[2000:] == [
        "2026-02-01T23:59:59.999Z",
        "expiresAt: has no offset: send `dates`, or add one",
    ]


@pytest.mark.parametrize("line", ["1.23457E+11;", "1,23457E+11;", "CODE;1.000", "CODE;1,000", "CODE;3.0", "CODE;3,00"])
def test_numbers_that_a_spreadsheet_has_changed(line: str) -> None:
    """A long number that became a power of ten is no code, and a count with a point or comma is no count."""
    (rejected,), _ = read(f"code;Usage limit\n{line}\n".encode())
    assert isinstance(rejected, RejectedLine)


@pytest.mark.parametrize("word", ["PROMO", "Voucher", "coupon code", "Code"])
def test_a_header_is_reported(word: str) -> None:
    """A first line with a known word is a header, and the result names it and its field; `header` decides otherwise."""
    lines, parser = read(f"{word}\r\nSALE-0001\r\n".encode())
    assert [line.code for line in lines] == ["SALE-0001"]
    assert parser.layout
    assert parser.layout.has_header
    assert [(column.name, column.field) for column in parser.layout.columns] == [(word, "code")]
    lines, _ = read(f"{word}\r\nSALE-0001\r\n".encode(), header=False)
    assert len(lines) == 2


FORMS = ("%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y-%m-%d", "%d-%m-%Y", "%d/%m/%y", "%m/%d/%y")


@given(
    st.lists(st.tuples(st.dates(date(2026, 1, 1), date(2035, 12, 31)), st.booleans()), min_size=1, max_size=8),
    st.tuples(st.sampled_from(FORMS), st.sampled_from(FORMS)),
)
def test_no_date_is_read_wrong(days: list[tuple[date, bool]], forms: tuple[str, str]) -> None:
    """A column whose dates are of one form or two, of other separators, is read as it was meant, or refused."""
    if forms[0][2] == forms[1][2]:
        forms = (forms[0], forms[0])
    ends = [datetime.combine(day, time(), UTC) + timedelta(days=1, milliseconds=-1) for day, _ in days]
    meant = [from_ms(round(at.timestamp() * 1000)) for at in ends]
    try:
        results = read_times([format(day, forms[form]) for day, form in days], time_zone="UTC")
    except Refusal as refusal:
        results = [error.field for error in refusal.errors]
    assert results in (["dates"], meant)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Berlin",
        "CET ",
        "CET",
        "WET",
        "../../etc/passwd",
        "Europe",
        "W. Europe Standard Time",
        "A" * 99,
    ],
)
def test_unknown_time_zones(name: str) -> None:
    """Only names of the IANA database are time zones."""
    with pytest.raises(BadField, match="timeZone: must be an IANA time zone"):
        CsvOptions(time_zone=name)
