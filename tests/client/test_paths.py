"""No value changes a request's path, whatever text it is: the same for all operations."""

import inspect
import re
from typing import Any
from urllib.parse import unquote

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.generate import Document, Function
from scrip_client import operations, refusals
from tests.client.conftest import Shell

NO_NAMES = ("", ".", "..")
HOSTILE = (
    "../redeem/LOST-2", "..%2Fredeem%2FLOST-2", "%2e%2e", "a/b", "/", "//", "a\\b", "..\\a", "?a=b", "#", "a;b", "a b",
    "\r\nX: y", "\0", "é", "\ud800", "...", "@", "http://127.0.0.1:1/", "codes.csv", "lock", ":", "{code}",
)  # fmt: skip
DOCUMENT = Document()
PATHS = {
    Function(DOCUMENT, method.upper(), path, operation, sends_file).name: path
    for path, item in DOCUMENT.paths.items()
    for method, operation in item.items()
    for sends_file in (False, operation["operationId"] == "changeCodes")
    if "{" in path
}
"""The template of the path of each function that has values in it."""


def make(name: str, values: list[str]) -> Any:
    """The call with these values of the path, and any others."""
    function = getattr(operations, name)
    required = [
        one.name
        for one in inspect.signature(function).parameters.values()
        if one.default is one.empty and one.kind is one.KEYWORD_ONLY
    ]
    return function(*values, **dict.fromkeys(required, "x"))


def check(name: str, value: str) -> None:
    """The value is one part of the path that is sent, and all others are the operation's."""
    template = PATHS[name]
    fields = re.findall(r"{(\w+)}", template)
    call = make(name, [value] * len(fields))
    sent = httpx2.Request(call.method, f"http://scrip.test{call.path}").url.raw_path.decode()
    parts = sent.split("/")
    assert [unquote(part) if part != own else part for part, own in zip(parts, template.split("/"), strict=True)] == [
        value.encode(errors="replace").decode() if own.startswith("{") else own for own in template.split("/")
    ]
    assert not {unquote(part) for part in parts[1:]} & {*NO_NAMES}
    assert re.fullmatch(r"[\w/.%~-]+", sent, re.ASCII)


@pytest.mark.parametrize("name", PATHS)
def test_a_hostile_value_stays_a_part_of_the_path(name: str) -> None:
    """Each operation sends what would lead elsewhere as one part of its own path."""
    for value in HOSTILE:
        check(name, value)


@given(st.sampled_from(sorted(PATHS)), st.text(min_size=1, max_size=20))
def test_any_value_stays_a_part_of_the_path(name: str, value: str) -> None:
    """The same of any text."""
    if value not in NO_NAMES:
        check(name, value)


@pytest.mark.parametrize("name", PATHS)
def test_what_a_path_loses_is_refused(name: str) -> None:
    """A value that URLs lose on their way is not found, in each place of each path."""
    count = PATHS[name].count("{")
    for value in NO_NAMES:
        for place in range(count):
            with pytest.raises(refusals.NotFound, match="Nothing was sent") as refused:
                make(name, ["x"] * place + [value] + ["x"] * (count - place - 1))
            assert refused.value.status == 404


def test_nothing_is_sent(shell: Shell) -> None:
    """Both clients refuse such a value before they send anything."""
    for value in NO_NAMES:
        with pytest.raises(refusals.NotFound):
            shell.do(lambda client, value=value: client.redeem_coupon(value, user_id="ann"))
    assert shell.requests == []
