"""Cookies of a request: one is read, whatever else the header has, and nothing else of the service parses them."""

import re
from pathlib import Path

import pytest
from litestar import Request

from service.server.requests.cookies import MAX_CHARACTERS, read_cookie

SERVICE = Path(__file__).parents[2] / "service"
NAME = "scrip_session"


def _read(*headers: str) -> str:
    fields = [(b"cookie", header.encode("latin-1")) for header in headers]
    return read_cookie(Request({"type": "http", "headers": fields}), NAME)  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        ([], ""),
        (["scrip_session=a-_1"], "a-_1"),
        (["other=x; scrip_session=a"], "a"),
        (["other=x;scrip_session=a ;last=y"], "a"),
        (["a=b; ; =; scrip_session=a=b=="], "a=b=="),
        (["scrip_session=a; scrip_session=b"], "a"),
        (["a=b", "scrip_session=c"], "c"),
        (["not_scrip_session=a"], ""),
        (["a=scrip_session=b"], ""),
        (["a b; scrip_session"], ""),
        (["scrip_session="], ""),
        (["scrip_session=a b; c=d"], ""),
        (["Scrip_Session=a"], ""),
        ([f"scrip_session={'a' * MAX_CHARACTERS}"], "a" * MAX_CHARACTERS),
        ([f"scrip_session={'a' * (MAX_CHARACTERS + 1)}"], ""),
        (['a="; scrip_session=b"'], 'b"'),
    ],
)
def test_reading_a_cookie(headers: list[str], value: str) -> None:
    """The value is what stands between the cookie's name and the next semicolon; its text is not interpreted."""
    assert _read(*headers) == value


def test_nothing_else_parses_cookies() -> None:
    """Neither Python's parser of cookies nor Litestar's, which uses it, is called: their cost is not bounded."""
    parsing = re.compile(r"\bhttp\.cookies\b|\.cookies\b(?! import read_cookie)|\bparse_cookie")
    found = [path.name for path in SERVICE.rglob("*.py") if parsing.search(path.read_text())]
    assert found == ["cookies.py"]  # which says so
