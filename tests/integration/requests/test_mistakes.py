"""The most likely mistakes against the API: each answer says what to do next. `pytest -s` prints them as a table."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cases import Place
from tests.integration.requests.mistakes_table import MISTAKES, Mistake, make_place
from tests.integration.requests.requests_table import unchanged
from tests.service_fixture import Service, new_id, refused


@pytest.fixture(scope="module")
def service(service: Service) -> Service:
    """A workspace of this file's own."""
    return service.make_workspace(new_id("mistakes"), "live")


@pytest.fixture(scope="module")
def place(service: Service) -> Iterator[Place]:
    """What the mistakes are about; all of them together change nothing."""
    made = make_place(service)
    with unchanged(service):
        yield made


def _fill(value: Any, place: Place) -> Any:
    if isinstance(value, str):
        return value.format_map(place) if value.startswith("{") and value.endswith("}") else value
    return {name: _fill(one, place) for name, one in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.what)
def test_a_mistake(service: Service, place: Place, mistake: Mistake) -> None:
    """The refusal of a likely mistake has its status and code, and the words that lead to the remedy."""
    method, _, path = mistake.request.format_map(place).partition(" ")
    client = service.anonymous if mistake.key is None else service.client(mistake.key.format_map(place))
    body = mistake.body if isinstance(mistake.body, str) else json.dumps(_fill(mistake.body, place))
    headers = {"Content-Type": "application/json"} | _fill(mistake.headers, place)
    content = None if mistake.body is None else body
    problem = refused(client.request(method, path, content=content, headers=headers), mistake.status, mistake.code)
    sent = f"{method} {path} {' '.join(f'{name}: {value}' for name, value in mistake.headers.items())}"
    print(f"\n{mistake.what}\n  {sent.strip()}\n  {(content or '')[:100]}")
    print(f"  {problem['status']} {problem['code']}: {problem['title']} | {problem['detail']}")
    errors = [f"{error['field']}: {error['reason']}" for error in problem.get("errors", ())]
    assert mistake.says in " ".join([problem["title"], problem["detail"], *errors]), problem
