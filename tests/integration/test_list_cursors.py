"""Cursors that a client made up, at every list of the service: refused or answered, never a failure."""

import base64
import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.formats import page_cursors
from tests.service_fixture import Service, new_code, new_id, ok

_HIDDEN = {"/console/data/jobs", "/console/data/redemptions"}
_EDGES = [0, 1, -1, *(sign * 2**bits + off for bits in (15, 31, 32, 53, 63, 64) for sign in (1, -1) for off in (-1, 0))]
_NAMES = st.sampled_from([*page_cursors.by_name, "", "BOOKS", "books\0"])
_PARTS = st.one_of(
    st.sampled_from(_EDGES),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.none(),
    st.booleans(),
    st.text(max_size=10),
    st.sampled_from(["ABCD", "0001-01-01T00:00:00+14:00", "00000000-0000-0000-0000-000000000000", "a\0b"]),
    st.recursive(st.none(), lambda inner: st.lists(inner, max_size=3), max_leaves=20),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def _packed(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


_OF_A_LIST = st.tuples(_NAMES, st.lists(_PARTS, max_size=3)).map(lambda made: _packed([made[0], *made[1]]))
_OF_NONE = st.one_of(
    _PARTS.map(_packed), st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode()), st.text()
)
_CURSORS = st.one_of(_OF_A_LIST, _OF_NONE)


@pytest.fixture(scope="module")
def lists(service: Service) -> dict[str, str]:
    """The paths of all lists, by what the OpenAPI document calls them; what they name exists."""
    code, user = new_code(), new_id()
    ids = {"bookId": service.book(code), "code": code, "userId": user}
    ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": user}), 201)
    hook = {"url": "https://hooks.example/", "events": ["reconcile.drift"]}
    ids["webhookId"] = ok(service.operate.post("/v1/webhooks", json=hook), 201)["webhookId"]
    document = service.anonymous.get("/schema/openapi.json").json()
    found = {path: path for path in _HIDDEN}
    for path, operations in document["paths"].items():
        if any(one["name"] == "cursor" for one in operations.get("get", {}).get("parameters", ())):
            found[path] = path.format_map(ids)
    return found


def test_every_list_is_asked(lists: dict[str, str]) -> None:
    """The lists that take a cursor are at least as many as there are kinds of cursors."""
    assert len(lists) >= len(page_cursors.by_name)
    assert lists.keys() > _HIDDEN


def test_extreme_places(service: Service, lists: dict[str, str]) -> None:
    """Each integer next to a bound of Postgres's, in the name of each list, at each list."""
    made = [
        [name, *parts]
        for name in page_cursors.by_name
        for number in (-1, 2**31 - 1, 2**31, 2**63 - 1, 2**63)
        for parts in ([number], [number, number], [number, "ABCD"])
    ]
    assert [(one, told) for one in made if (told := _failures(service, lists, _packed(one)))] == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_CURSORS)
def test_made_up_cursors(service: Service, lists: dict[str, str], text: str) -> None:
    """A generated cursor of any kind is malformed or names a page, at each list."""
    assert _failures(service, lists, text) == []


def _failures(service: Service, lists: dict[str, str], text: str) -> list[str]:
    """The lists that answer anything but a page or 400 `malformed`."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return []  # no query can say it
    wrong: list[str] = []
    for path in lists.values():
        answer: httpx.Response = service.admin.get(path, params={"cursor": text, "limit": 1})
        if answer.status_code != 200 and (answer.status_code, answer.json().get("code")) != (400, "malformed"):
            wrong.append(f"{path}: {answer.status_code} {answer.text[:200]}")
    return wrong
