"""What every field of every request can't be: refused with the field named, and nothing changed."""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.requests_table import REQUESTS, Asked, Place, make_place
from tests.service_fixture import Service, new_code, new_id, ok

_MISSING = object()
_NOT_JSON = (
    b"NaN", b"Infinity", b"-Infinity", b"01", b"+1", b"1.", b"nul", b"'x'", b'"\\ud800"', b'"\\udc00\\ud800"',
    b'"\xff"', b'"\xed\xa0\x80"', b'"a\nb"', b'"\\x"', b'"x', b"[1", b'{"a"',
)  # fmt: skip


@pytest.fixture(scope="module")
def place(service: Service) -> Place:
    """What paths name: a book with a free code, one that was redeemed, its order."""
    return make_place(service)


@pytest.fixture(autouse=True)
def nothing_changes(service: Service, place: Place, request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test refuses leaves the book's counts and all of Redis, the last event included, as they were."""
    if request.node.originalname == "test_null_is_left_out":
        yield
        return
    before = service.stats(place["book"]), service.digest(), _listed(service)
    yield
    assert (service.stats(place["book"]), service.digest(), _listed(service)) == before


def _listed(service: Service) -> list[Any]:
    """The newest of what Postgres lists."""
    lists = [(service.manage, "/v1/books"), (service.manage, "/v1/users"), (service.operate, "/v1/keys")]
    found = [client.get(path, params={"limit": 1}).json()["items"] for client, path in lists]
    return [[item | {"lastUsedAt": None} for item in items] for items in found]


def _filled(template: Any, place: Place) -> Any:
    if isinstance(template, str):
        return template.format_map(place) if "{" in template else template
    if isinstance(template, dict):
        return {name: _filled(value, place) for name, value in template.items()}
    return template


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


def _send(service: Service, asked: Asked, place: Place, body: bytes) -> httpx.Response:
    client = getattr(service, asked.scope)
    headers = {"Content-Type": "application/json"}
    return client.request(asked.method, _filled(asked.path, place), content=body, headers=headers)


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
        good = _filled(asked.good, place)
        for value, status, code in cases:
            answer = _send(service, asked, place, _with(good, name, value))
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
            answer = _send(service, asked, place, _with(_filled(asked.good, place), name, value))
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
            answer = _send(service, asked, place, _with(_filled(asked.good, place), path, None))
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (400, "malformed"), answer.text
            if unknown:
                assert _names(problem) == [re.sub(r"\.\d+", "", path)]


@pytest.mark.parametrize("asked", REQUESTS, ids=_id)
def test_null_is_left_out(service: Service, asked: Asked) -> None:
    """Every field that may be left out may also be null."""
    place, good = make_place(service) | {"book": service.book(new_code())}, asked.good
    if "lockToken" in asked.required:
        locked = service.checkout.post(f"/v1/coupons/lock/{place['code']}", json={"userId": "u"})
        good = {"lockToken": ok(locked, 201)["lockToken"]}
    if "{key}" in asked.path:
        made = service.operate.post("/v1/keys", json={"name": "k", "scopes": ["public"]})
        place["key"] = ok(made, 201)["keyId"]
    if "/webhooks" in asked.path:
        place |= _webhook(service)
    if "unassign" in asked.path:
        ok(service.checkout.post(f"/v1/coupons/assign/{place['code']}", json={"userId": "u"}), 201)
    if "userId" in good:
        good = good | {"userId": new_id()}
    body = _filled(good, place)
    for name in asked.fields.keys() - asked.required - asked.never_null:
        body = json.loads(_with(body, name, None))
    answer = _send(service, asked, place, json.dumps(body).encode())
    assert answer.is_success, answer.text
    if "/webhooks" in asked.path:
        for item in ok(service.operate.get("/v1/webhooks"))["items"]:
            if item["url"] == "https://nobody.invalid/":
                assert service.operate.delete(f"/v1/webhooks/{item['webhookId']}").status_code == 204


def _webhook(service: Service) -> Place:
    """A webhook with a delivery."""
    said = {"url": "https://nobody.invalid/", "events": ["reconcile.drift"]}
    webhook = ok(service.operate.post("/v1/webhooks", json=said), 201)["webhookId"]
    delivery = ok(service.operate.post(f"/v1/webhooks/{webhook}/test", json={}), 202)["deliveryId"]
    return {"webhook": webhook, "delivery": delivery}


def test_the_table_is_whole(service: Service) -> None:
    """The table has every request with a JSON body that the OpenAPI document has, and every field of each."""
    document = service.anonymous.get("/schema/openapi.json").json()
    schemas = document["components"]["schemas"]
    missing: list[str] = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if content is None:
                continue
            schema = schemas[content["schema"]["$ref"].rpartition("/")[2]]
            id_ = f"{method.upper()} {_same_names(path)}"
            mine = [asked for asked in REQUESTS if asked.id == id_]
            known = {name.split(".")[0] for asked in mine for name in asked.fields}
            if not mine:
                missing.append(id_)
            elif id_ != "POST /v1/coupons":  # as POST /v1/books
                missing += [f"{id_}: {name}" for name in schema["properties"].keys() - known]
    assert missing == []


def _same_names(path: str) -> str:
    """A path of the document with the table's words in it."""
    return re.sub(r"\{(\w+?)Id\}", r"{\1}", path)
