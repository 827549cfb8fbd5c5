"""What every field of every request can't be: refused with the field named, and nothing changed."""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.requests_table import REQUESTS, Asked, Place, filled, make_place, send, unchanged
from tests.service_fixture import Service

_MISSING = object()
_NOT_JSON = (
    b"NaN", b"Infinity", b"-Infinity", b"01", b"+1", b"1.", b"nul", b"'x'", b'"\\ud800"', b'"\\udc00\\ud800"',
    b'"\xff"', b'"\xed\xa0\x80"', b'"a\nb"', b'"\\x"', b'"x', b"[1", b'{"a"',
)  # fmt: skip


@pytest.fixture(scope="module")
def place(service: Service) -> Place:
    """What paths name: a book with a free code, one that was redeemed, its order."""
    return make_place(service)


@pytest.fixture(scope="module", autouse=True)
def nothing_changes(service: Service, place: Place) -> Iterator[None]:
    """What these tests refuse changes nothing; by itself each test says so, too."""
    with unchanged(service, place["book"]):
        yield


def _with(good: dict[str, Any], path: str, value: Any) -> bytes:
    """The body with this value at `discount.value` or `items.0.sku`."""
    body: Any = copy.deepcopy(good)
    at, (*parents, last) = body, path.split(".")
    for name in parents:
        at = at[int(name)] if name.isdecimal() else at[name]
    at.pop(last, None)
    if value is not _MISSING:
        at[last] = "\0here" if isinstance(value, bytes) else value
    text = json.dumps(body).encode()
    return text.replace(b'"\\u0000here"', value) if isinstance(value, bytes) else text


def _names(problem: dict[str, Any]) -> list[str]:
    """The fields that a problem names, without the places in arrays."""
    return [re.sub(r"\[[^]]*\]", "", error["field"]) for error in problem.get("errors", [])]


def _id(asked: Asked) -> str:
    return asked.id + (" " + next(iter(asked.fields)) if any("." in name for name in asked.fields) else "")


@pytest.mark.parametrize("asked", REQUESTS, ids=_id)
def test_what_a_field_cannot_be(service: Service, place: Place, asked: Asked) -> None:
    """Every field refuses every value that it can't have: 400 where it can't be read, 422 where it makes no sense."""
    wrong: list[str] = []
    for name, kind in asked.fields.items():
        cases: list[tuple[Any, int, str]] = [(value, 400, "malformed") for value in kind.unreadable]
        cases += [(value, 422, "invalid") for value in kind.senseless]
        cases += [(value, 404, "book_not_found") for value in kind.not_found]
        if name in asked.required:
            cases += [(_MISSING, 400, "malformed"), (None, 400, "malformed")]
        if name in asked.never_null:
            cases.append((None, 400, "malformed"))
        good = filled(asked.good, place)
        for value, status, code in cases:
            answer = send(service, asked, place, _with(good, name, value))
            told = answer.json()
            fields = [] if status == 404 else [re.sub(r"\.\d+", "", name)]
            if (answer.status_code, told.get("code"), _names(told)) != (status, code, fields):
                shown = "(missing)" if value is _MISSING else repr(value)[:60]
                wrong.append(f"{name} = {shown}: {status} {code} wanted, got {answer.status_code} {answer.text[:300]}")
    assert wrong == []


@pytest.mark.parametrize("asked", REQUESTS, ids=_id)
def test_what_is_no_json(service: Service, place: Place, asked: Asked) -> None:
    """A value that is no JSON in UTF-8, NaN and a lone surrogate included, makes the whole body malformed."""
    wrong: list[str] = []
    for name in asked.fields:
        for value in _NOT_JSON:
            answer = send(service, asked, place, _with(filled(asked.good, place), name, value))
            if (answer.status_code, answer.json().get("code")) != (400, "malformed"):
                wrong.append(f"{name} = {value!r}: {answer.status_code} {answer.text[:300]}")
    assert wrong == []


@pytest.mark.parametrize("asked", REQUESTS, ids=_id)
def test_unknown_fields(service: Service, place: Place, asked: Asked) -> None:
    """A field that a request doesn't have is refused and named, whatever else is right."""
    parents = {name.rpartition(".")[0] for name in asked.fields} | {""}
    for parent in parents:
        for unknown in ("colour", "user_id", "UserId", ""):
            path = f"{parent}.{unknown}" if parent else unknown
            answer = send(service, asked, place, _with(filled(asked.good, place), path, None))
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (400, "malformed"), answer.text
            if unknown:
                assert _names(problem) == [re.sub(r"\.\d+", "", path)]
