"""Every field of every request refuses bad values, names itself in the problem, and changes nothing."""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.requests_table import REQUESTS, Asked, Place, filled, make_place, send, unchanged
from tests.service_fixture import Service

_MISSING = object()


@pytest.fixture(scope="module")
def place(service: Service) -> Place:
    """Names for paths: a book with a free code, a redeemed one, its order."""
    return make_place(service)


@pytest.fixture(scope="module", autouse=True)
def nothing_changes(service: Service, place: Place) -> Iterator[None]:
    """All refusals of this file together change nothing."""
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
    """Every field refuses what can't be decoded with 400, and what is out of its bounds with 422."""
    wrong: list[str] = []
    for name, kind in asked.fields.items():
        cases: list[tuple[Any, int, str]] = [(value, 400, "malformed") for value in kind.malformed]
        cases += [(value, 422, "invalid") for value in kind.invalid]
        cases += [(value, 404, "book_not_found") for value in kind.not_found]
        if name in asked.required:
            cases += [(_MISSING, 400, "malformed"), (None, 400, "malformed")]
        if name in asked.never_null:
            cases.append((None, 400, "malformed"))
        good = filled(asked.good, place)
        for value, status, code in cases:
            answer = send(service, asked, place, _with(good, name, value))
            problem = answer.json()
            fields = [] if status == 404 else [re.sub(r"\.\d+", "", name)]
            if (answer.status_code, problem.get("code"), _names(problem)) != (status, code, fields):
                text = "(missing)" if value is _MISSING else repr(value)[:60]
                wrong.append(f"{name} = {text}: {status} {code} wanted, got {answer.status_code} {answer.text[:300]}")
    assert wrong == []


@pytest.mark.parametrize("asked", REQUESTS, ids=_id)
def test_unknown_fields(service: Service, place: Place, asked: Asked) -> None:
    """An unknown field of an otherwise good request is refused and named."""
    parents = {name.rpartition(".")[0] for name in asked.fields} | {""}
    for parent in parents:
        for unknown in ("colour", ""):
            path = f"{parent}.{unknown}" if parent else unknown
            answer = send(service, asked, place, _with(filled(asked.good, place), path, None))
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (400, "malformed"), answer.text
            if unknown:
                assert _names(problem) == [re.sub(r"\.\d+", "", path)]
