"""The OpenAPI document: complete, valid, and consistent with the service's responses."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import pytest

from service.common.config import Settings
from service.engine.domain.outcomes import BY_CODE
from service.engine.operations.table import ROWS
from service.serving.app import create_app
from tests.harness.cases import WorkspaceSetup, filled
from tests.harness.described import Route
from tests.harness.routes.setup import make_paused_change, make_quarantined, send
from tests.harness.routes.table import REQUESTS
from tests.harness.service_fixture import Service, new_code, new_id, ok
from tests.harness.serving import own_workspace
from tests.integration.schema import check, resolved

_METHODS = {"get", "put", "post", "delete", "patch"}
Document = dict[str, Any]

_CHANGING_NOTHING = {row.route for row in ROWS if row.reads} | {"POST /v1/books/{bookId}/codes/rejected.csv"}


service = own_workspace("test")
"""A workspace of this file's own, whose settings it changes."""


@pytest.fixture(scope="module")
def document(service: Service) -> Document:
    answer = service.anonymous.get("/schema/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def _operations(document: Document) -> Iterator[tuple[str, Document]]:
    for path, item in document["paths"].items():
        assert item.keys() <= _METHODS
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def _values(node: Any, name: str) -> Iterator[Any]:
    """All values in the document under this name."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == name:
                yield value
            else:
                yield from _values(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from _values(value, name)


def test_the_head(document: Document) -> None:
    """The document is OpenAPI 3.1, with a title, a version, described tags, and both ways to authenticate."""
    assert document["openapi"].startswith("3.1.")
    assert {"title", "version", "description", "license"} <= document["info"].keys()
    schemes = document["components"]["securitySchemes"]
    assert schemes["key"] == {"type": "http", "scheme": "bearer", "description": "An API key."}
    token = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    assert schemes["token"] == token | {"description": schemes["token"]["description"]}
    assert schemes.keys() == {"key", "token"}
    assert document["security"] == [{"key": []}]
    tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    used = {tag for _, operation in _operations(document) for tag in operation["tags"]}
    assert used == tags


def test_references_resolve(document: Document) -> None:
    """Every $ref resolves, and every schema is used."""
    references = set(_values(document, "$ref"))
    for reference in references:
        assert resolved(reference, document)
    names = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert names - references == set()


def test_operations_are_described(document: Document) -> None:
    """Every operation has a unique id, a summary, a description, and its path's parameters."""
    ids = Counter(operation["operationId"] for _, operation in _operations(document))
    assert [name for name, count in ids.items() if count > 1] == []
    for name, operation in _operations(document):
        assert operation["summary"], name
        assert operation["description"], name
        parameters = operation.get("parameters", [])
        in_path = {parameter["name"] for parameter in parameters if parameter["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\}", name)), name
        assert all(parameter["description"] and parameter["schema"] for parameter in parameters), name
        assert all(parameter["required"] for parameter in parameters if parameter["in"] == "path"), name
        keys = {parameter["name"] for parameter in parameters}
        takes_key = name.startswith("POST") and name not in _CHANGING_NOTHING
        assert ("Idempotency-Key" in keys) == takes_key, name


def test_bodies_and_answers_have_schemas_and_examples(document: Document) -> None:
    """Every body and every answer in JSON has a schema and an example that fits it; an empty answer has no content.
    Each answer is described in words of ours."""
    wrong: list[str] = []
    for name, operation in _operations(document):
        contents = [("request", operation["requestBody"]["content"])] if "requestBody" in operation else []
        assert any(status.startswith("2") for status in operation["responses"]), name
        for status, answer in operation["responses"].items():
            assert answer["description"] not in {"", HTTPStatus(int(status)).description}, (name, status)
            if status.startswith("2"):
                contents.append((status, answer.get("content", {})))
                assert bool(answer.get("content")) == (status != "204"), (name, status)
        for what, content in contents:
            for media, item in content.items():
                assert item["schema"], (name, what, media)
                if media not in {"application/json", "text/csv"} or (what, media) == ("request", "text/csv"):
                    continue
                for example in item.get("examples", {}).values() or [{"value": None}]:
                    try:
                        check(example["value"], item["schema"], document)
                    except AssertionError as error:
                        wrong.append(f"{name} {what}: {error}")
    assert wrong == []


def test_refusals_are_named(document: Document) -> None:
    """Every operation lists its refusals under their status, as problems, each of which says whose turn it is."""
    for name in ("Problem", "ValidationRefusal"):
        schema = document["components"]["schemas"][name]
        assert schema["properties"]["for"]["enum"] == ["caller", "retry", "shopper"]
        assert "for" in schema["required"]
    for name, operation in _operations(document):
        listed: set[str] = set()
        for status, answer in operation["responses"].items():
            if status.startswith("2") or name == "GET /health/ready":
                continue
            schema = answer["content"]["application/problem+json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Problem"}, name
            codes = re.findall(r"^`(\w+)`: \S", answer["description"], re.MULTILINE)
            assert codes, (name, status)
            assert {str(BY_CODE[code].status) for code in codes} == {status}, name
            listed |= set(codes)
        if name.startswith("GET /health/"):
            assert operation["security"] == [], name
            continue
        wanted = {"malformed", "unauthenticated", "forbidden", "recovering", "unavailable"}
        if "requestBody" in operation:
            wanted |= {"invalid", "too_large", "unsupported_media_type"}
        for parameter, code in (
            ("{code}", "coupon_not_found"),
            ("{bookId}", "book_not_found"),
            ("{jobId}", "job_not_found"),
            ("{eventId}", "event_not_found"),
            ("{redemptionId}", "redemption_not_found"),
            ("{orderId}", "order_not_found"),
        ):
            if parameter in name and name != "GET /v1/coupons/{code}/validate":
                wanted.add(code)
        if any(one["name"] == "Idempotency-Key" for one in operation.get("parameters", [])):
            wanted |= {"request_in_progress", "idempotency_key_reused"}
        assert wanted <= listed, (name, wanted - listed)


def test_options_names_all_methods(service: Service, document: Document) -> None:
    """OPTIONS, and the refusal of another method, name all documented methods of an address."""
    for path, item in document["paths"].items():
        at = re.sub(r"\{\w+\}", "a", path)
        wanted = {method.upper() for method in item} | {"OPTIONS"}
        for answer in (service.anonymous.options(at), service.anonymous.put(at)):
            methods = set(answer.headers["Allow"].split(", "))
            assert methods == wanted, path


def test_it_has_every_route(document: Document) -> None:
    """The document has exactly the served routes under /v1, with all methods."""
    served: set[str] = set()
    for route in create_app(Settings()).routes:
        path = re.sub(r":\w+\}", "}", route.path)
        methods = {method for handler in getattr(route, "route_handlers", []) for method in handler.http_methods}
        if path.startswith("/v1"):
            served |= {f"{method} {path}" for method in methods - {"OPTIONS"}}
    assert served == {name for name, _ in _operations(document) if " /v1" in name}


def test_good_bodies_fit(document: Document) -> None:
    """The good bodies that tests send fit the schemas of their requests."""
    for asked in REQUESTS:
        method, path = asked.name.split(" ")
        operation = document["paths"][path][method.lower()]
        check(asked.good.body, operation["requestBody"]["content"]["application/json"]["schema"], document)


@pytest.mark.parametrize("asked", REQUESTS, ids=lambda asked: asked.name)
def test_null_is_left_out(service: Service, asked: Route) -> None:
    """Every optional field may be null."""
    setup, good = _make_setup(service), asked.good.body
    if "lockToken" in asked.good.required.split():
        locked = service.checkout.post(f"/v1/coupons/lock/{setup['code']}", json={"userId": "u"})
        good = {"lockToken": ok(locked, 201)["lockToken"]}
    if "{key}" in asked.named:
        made = service.operate.post("/v1/keys", json={"name": "k", "scopes": ["public"]})
        setup["key"] = ok(made, 201)["keyId"]
    setup |= _make_for(service, asked.named, setup)
    if "unassign" in asked.named:
        ok(service.checkout.post(f"/v1/coupons/assign/{setup['code']}", json={"userId": "u"}), 201)
    if "userId" in good:
        good = good | {"userId": new_id()}
    body = filled(good, setup)
    for name in asked.good.fields.keys() - f"{asked.good.required} {asked.good.never_null}".split():
        body = _with_null(body, name.split("."))
    answer = send(service, asked, setup, json.dumps(body).encode())
    assert answer.is_success, answer.text
    if "{event}" in asked.named:
        asyncio.run(service.fetch("DELETE FROM quarantine"))
    if "/webhooks" in asked.named:
        for item in ok(service.operate.get("/v1/webhooks"))["items"]:
            if item["url"] == "https://nobody.invalid/":
                assert service.operate.delete(f"/v1/webhooks/{item['webhookId']}").status_code == 204


def _make_setup(service: Service) -> WorkspaceSetup:
    """A book with a free code, and a redemption of another code in an order."""
    code, order, user = new_code(), new_id("order"), new_id()
    used = service.coupon()
    redeemed = ok(service.checkout.post(f"/v1/coupons/redeem/{used}", json={"userId": user, "orderId": order}), 201)
    return {
        "book": service.book(code), "code": code, "user": user, "order": order,
        "redemption": redeemed["redemptionId"],
    }  # fmt: skip


def _make_for(service: Service, path: str, setup: WorkspaceSetup) -> WorkspaceSetup:
    """What a path names besides the setup: a webhook with a delivery, or a paused job."""
    if path.endswith(("/credit", "/close")):
        card = new_code()
        service.book(card, discount={"type": "balance", "value": 50})
        return {"code": card}
    if "{job}" in path:
        return {"job": make_paused_change(service, setup["book"])}
    if "{event}" in path:
        return {"event": make_quarantined(service)}
    if "/webhooks" not in path:
        return {}
    fields = {"url": "https://nobody.invalid/", "events": ["reconcile.drift"]}
    webhook = ok(service.operate.post("/v1/webhooks", json=fields), 201)["webhookId"]
    delivery = ok(service.operate.post(f"/v1/webhooks/{webhook}/test", json={}), 202)["deliveryId"]
    return {"webhook": webhook, "delivery": delivery}


def test_the_table_is_whole(document: Document) -> None:
    """The table has every request with a JSON body that the OpenAPI document has, and every field of each."""
    missing: list[str] = []
    for name, operation in _operations(document):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content is None:
            continue
        mine = [asked for asked in REQUESTS if asked.name == name]
        known = {field.split(".")[0] for asked in mine for field in asked.good.fields}
        if not mine:
            missing.append(name)
        elif name != "POST /v1/coupons":  # as POST /v1/books
            properties = resolved(content["schema"]["$ref"], document)["properties"]
            missing += [f"{name}: {field}" for field in properties.keys() - known]
    assert missing == []


def _with_null(body: Any, path: list[str]) -> Any:
    """The body with null at `["discount", "value"]` or `["items", "0", "sku"]`."""
    name, *rest = path
    at: Any = int(name) if name.isdecimal() else name
    changed = body.copy()
    changed[at] = _with_null(body[at], rest) if rest else None
    return changed


def test_nothing_of_ours_is_hidden(service: Service) -> None:
    """Responses name neither the server's software nor its files."""
    for path in ("/", "/schema", "/v1/nothing", "/metrics"):
        answer = service.anonymous.get(path)
        assert "Server" not in answer.headers
        assert "Traceback" not in answer.text
    for accept in ("text/html", "application/xml", "*/*;q=0", "garbage"):
        assert ok(service.anonymous.get("/health/live", headers={"Accept": accept})) == {"status": "live"}
