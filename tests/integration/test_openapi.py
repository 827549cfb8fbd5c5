"""The OpenAPI document: whole, right, and true of what the service answers."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from service.common.config import Settings
from service.domain.outcomes import BY_CODE
from service.serving.app import create_app
from tests.integration.requests_table import REQUESTS
from tests.schema import check, resolved
from tests.service_fixture import Service, new_code, new_id, ok

_METHODS = {"get", "put", "post", "delete", "patch"}
Document = dict[str, Any]


@pytest.fixture(scope="module")
def document(service: Service) -> Document:
    """The document as it is served."""
    answer = service.anonymous.get("/schema/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def _operations(document: Document) -> Iterator[tuple[str, Document]]:
    for path, item in document["paths"].items():
        assert item.keys() <= _METHODS
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def _values(found: Any, name: str) -> Iterator[Any]:
    """Everything in the document under this name."""
    if isinstance(found, dict):
        for key, value in found.items():
            if key == name:
                yield value
            else:
                yield from _values(value, name)
    elif isinstance(found, list):
        for value in found:
            yield from _values(value, name)


def test_the_head(document: Document) -> None:
    """It is OpenAPI 3.1, with a title, a version, tags that are explained, and how a key is sent."""
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
    """Every $ref names something, and nothing is described that no operation uses."""
    references = set(_values(document, "$ref"))
    for reference in references:
        assert resolved(reference, document)
    names = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert names - references == set()


def test_operations_have_ids_and_words(document: Document) -> None:
    """Every operation has an id of its own, a summary, a description, and its path's parameters."""
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
        if name.startswith("POST") and name != "POST /v1/coupons/validate":
            assert "Idempotency-Key" in keys, name


def test_bodies_and_answers_have_schemas_and_examples(document: Document) -> None:
    """Every body and every answer in JSON has a schema and an example that fits it; an empty answer has no content."""
    wrong: list[str] = []
    for name, operation in _operations(document):
        contents = [("request", operation["requestBody"]["content"])] if "requestBody" in operation else []
        assert any(status.startswith("2") for status in operation["responses"]), name
        for status, answer in operation["responses"].items():
            assert answer["description"], (name, status)
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
    """Every refusal that an operation may answer is listed under its status, as a problem."""
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
        for word, code in (("{code}", "coupon_not_found"), ("{bookId}", "book_not_found"), ("{jobId}", "job_not_found"),
                           ("{redemptionId}", "redemption_not_found"), ("{orderId}", "order_not_found")):  # fmt: skip
            if word in name and name != "GET /v1/coupons/{code}/validate":
                wanted.add(code)
        if any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", [])):
            wanted |= {"request_in_progress", "idempotency_key_reused"}
        assert wanted <= listed, (name, wanted - listed)


def test_scopes_are_true(service: Service, document: Document) -> None:
    """Each operation names the scopes that may do it; a key with none of them is forbidden, one with any is not."""
    clients = {"public": service.public, "checkout": service.checkout, "manage": service.manage,
               "operate": service.operate}  # fmt: skip
    for name, operation in _operations(document):
        if name.startswith("GET /health/"):
            continue
        assert operation["security"], name
        said = {scope for way in operation["security"] for scope in way.get("key", ())}
        method, path = name.split(" ")
        for scope, client in clients.items():
            answer = client.request(method, re.sub(r"\{\w+\}", "a%20b", path), params={"colour": "red"})
            assert (answer.status_code != 403) == (scope in said), (name, scope, answer.text)


def test_options_names_all_methods(service: Service, document: Document) -> None:
    """OPTIONS, and the refusal of another method, name all the methods that the document has of an address."""
    for path, item in document["paths"].items():
        at = re.sub(r"\{\w+\}", "a", path)
        wanted = {method.upper() for method in item} | {"OPTIONS"}
        for answer in (service.anonymous.options(at), service.anonymous.put(at)):
            methods = set(answer.headers["Allow"].split(", "))
            assert methods == wanted, path


def test_it_has_every_route(document: Document) -> None:
    """Every address under /v1 that is served is in it with all its methods, and nothing else is."""
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
        path = re.sub(r"\{(book|redemption|order|user|key|webhook|delivery)\}", r"{\1Id}", asked.path)
        operation = document["paths"][path][asked.method.lower()]
        check(asked.good, operation["requestBody"]["content"]["application/json"]["schema"], document)


def test_answers_are_as_described(service: Service, document: Document) -> None:
    """What is really answered, refusals too, has one of the statuses and fits the schema that the document names."""
    code, other, user, order = new_code(), new_code(), new_id(), new_id("order")
    seen: set[str] = set()

    def ask(client: httpx.Client, route: str, body: Any = None, query: str = "", **names: str) -> Any:
        method, path = route.split(" ")
        answer = client.request(method, path.format(**names) + query, json=body)
        operation = document["paths"][path][method.lower()]
        described = operation["responses"][str(answer.status_code)]
        seen.add(route)
        if answer.status_code == 204:
            return None
        media = answer.headers["Content-Type"].removesuffix("; charset=utf-8")
        told = answer.text if media == "text/csv" else answer.json()
        check(told, described["content"][media]["schema"], document)
        if media.endswith("problem+json"):
            assert f"`{answer.json()['code']}`" in described["description"], route
        return told

    checkout, manage, operate = service.checkout, service.manage, service.operate
    said = {"name": "Described", "discount": {"type": "percentage", "value": 10}, "validUntil": "2036-01-01T00:00:00Z"}
    book = ask(manage, "POST /v1/books", said | {"totalCodes": 5, "metadata": {"a": [1]}, "tags": ["x"]})["bookId"]
    ask(manage, "POST /v1/coupons", said | {"discount": {"type": "fixed", "value": "5.00", "currency": "EUR"}})
    tiers = [{"from": 0, "type": "fixed", "value": 1}, {"from": "9.99", "type": "percentage", "value": "12.5"}]
    ask(manage, "POST /v1/books", said | {"discount": {"type": "tiered", "tiers": tiers, "maxAmount": 5}})
    ask(manage, "POST /v1/books", said | {"discount": {"type": "buyXGetY", "buy": 2, "get": 1}})
    ask(manage, "GET /v1/books", query="?limit=3")
    ask(manage, "GET /v1/coupons")
    ask(manage, "GET /v1/books/{bookId}", bookId=book)
    ask(manage, "PATCH /v1/books/{bookId}", {"lockSeconds": 60}, bookId=book)
    ask(manage, "POST /v1/books/{bookId}/codes", {"codes": [code, other, "?"]}, bookId=book)
    ask(manage, "POST /v1/coupons/codes", {"bookId": book, "codes": [code]})
    flat = {"discountType": "fixed", "discountValue": "5.00", "maxTotalUses": 3}
    window = {"validFrom": "2020-01-01T00:00:00Z", "validUntil": "2036-01-01T00:00:00Z", "maxUsesPerUser": 1}
    ask(manage, "POST /v1/coupons/user-specific", flat | {"userId": user})
    ask(manage, "POST /v1/coupons/time-specific", window | {"code": f"{code}-1"})
    ask(manage, "POST /v1/coupons/generate", {"code": f"{code}-1"})
    ask(manage, "POST /v1/coupons/generate", {})
    ask(checkout, "GET /v1/coupons/active/time-specific", query="?limit=3")
    job = ask(manage, "POST /v1/books/{bookId}/codes/generate", {"count": 1}, bookId=book)["jobId"]
    ask(manage, "GET /v1/jobs/{jobId}", jobId=job)
    ask(manage, "POST /v1/users", {"userId": user, "maxCoupons": 2})
    ask(manage, "POST /v1/users", {"userId": user})
    ask(manage, "PATCH /v1/users/{userId}", {"metadata": {"a": None}}, userId=user)
    ask(checkout, "POST /v1/coupons/assign", {"bookId": book, "userId": user})
    for _ in range(2):
        ask(checkout, "POST /v1/coupons/assign/{code}", {"userId": user}, code=code)
        ask(checkout, "GET /v1/coupons/{code}", code=code)
        lock = ask(checkout, "POST /v1/coupons/lock/{code}", {"userId": user, "orderId": order}, code=code)
        ask(checkout, "POST /v1/coupons/extend/{code}", {"lockToken": lock["lockToken"], "lockSeconds": 90}, code=code)
    ask(checkout, "POST /v1/coupons/assign/{code}", {"userId": user}, code=other)
    ask(manage, "POST /v1/coupons/unassign/{code}", {}, code=other)
    ask(manage, "POST /v1/coupons/unassign/{code}", {}, code=other)
    ask(manage, "POST /v1/coupons/unassign/{code}", {}, code=code)
    for client in (checkout, service.public):
        ask(client, "GET /v1/coupons/{code}/validate", query="?orderValue=5", code=code)
        ask(client, "POST /v1/coupons/validate", {"code": new_code()})
    body = {"userId": user, "orderId": order, "orderValue": 12.5, "metadata": {"till": 4}}
    made = ask(checkout, "POST /v1/coupons/redeem/{code}", body, code=code)
    ask(checkout, "POST /v1/coupons/redeem/{code}", body, code=code)
    ask(checkout, "POST /v1/coupons/unlock/{code}", {"lockToken": "gone"}, code=code)
    gifts = _ask_purchases(ask, service, user, order, code, other)
    operations = [{"op": op, "code": code, "userId": user} for op in ("assign", "lock", "redeem", "validate", "x")]
    operations += [{"op": op, "code": code, "lockToken": "gone"} for op in ("extend", "unlock")]
    ask(checkout, "POST /v1/batch", {"operations": [*operations, {"op": "assign", "bookId": book, "userId": user}]})
    ask(checkout, "GET /v1/coupons/{code}", code=code)
    for path in ("GET /v1/users/{userId}", "GET /v1/users/{userId}/coupons", "GET /v1/users/{userId}/redemptions"):
        ask(checkout, path, userId=user)
    ask(checkout, "GET /v1/users", query="?limit=2")
    ask(manage, "GET /v1/coupons/{code}/redemptions", code=code)
    for _ in range(2):
        ask(manage, "POST /v1/redemptions/{redemptionId}/rollback", {}, redemptionId=made["redemptionId"])
        ask(manage, "POST /v1/orders/{orderId}/rollback", {"reason": "r"}, orderId=order)
        ask(checkout, "POST /v1/coupons/redeem/{code}", body, code=other)
        ask(checkout, "POST /v1/coupons/redeem/{code}", body | {"userId": new_id()}, code=code)
    ask(manage, "PATCH /v1/coupons/{code}", {"status": "inactive"}, code=other)
    ask(manage, "GET /v1/books/{bookId}/stats", bookId=book)
    ask(manage, "GET /v1/books/{bookId}/redemptions", bookId=book)
    ask(manage, "GET /v1/books/{bookId}/notices", bookId=gifts)
    ask(manage, "GET /v1/books/{bookId}/redemptions.csv", bookId=book)
    ask(manage, "GET /v1/books/{bookId}/codes", bookId=book)
    ask(manage, "GET /v1/books/{bookId}/codes.csv", bookId=book)
    ask(manage, "DELETE /v1/users/{userId}", userId=user)
    ask(operate, "GET /v1/workspace")
    ask(operate, "PATCH /v1/workspace", {"maxCoupons": None})
    ask(operate, "POST /v1/test/clock", {"now": None})
    ask(service.trial, "POST /v1/test/clock", {"now": None})
    key = ask(operate, "POST /v1/keys", {"name": "described", "scopes": ["public"]})["keyId"]
    ask(operate, "GET /v1/keys")
    ask(operate, "PATCH /v1/keys/{keyId}", {"limits": {"liveLocks": 5}}, keyId=key)
    key = ask(operate, "POST /v1/keys/{keyId}/rotate", {}, keyId=key)["keyId"]
    ask(operate, "DELETE /v1/keys/{keyId}", keyId=key)
    _ask_webhooks(ask, operate)
    ask(operate, "GET /v1/audit")
    ask(operate, "GET /v1/audit.csv")
    ask(operate, "GET /v1/ops/consistency")
    ask(operate, "POST /v1/ops/reconcile", {})
    ask(operate, "POST /v1/ops/reconcile", {})
    ask(service.anonymous, "GET /health/live")
    ask(service.anonymous, "GET /health/ready")
    assert seen == {name for name, _ in _operations(document)}

    names = dict.fromkeys(["bookId", "code", "jobId", "keyId", "redemptionId", "orderId", "userId"], "a%20b")
    names |= dict.fromkeys(["webhookId", "deliveryId"], "a%20b")
    for name in seen - {"GET /health/live", "GET /health/ready"}:
        for client in (service.admin, service.public, service.anonymous):
            ask(client, name, None if name.startswith(("GET", "DELETE")) else {"colour": 1}, "?colour=red", **names)
            ask(client, name, None if name.startswith(("GET", "DELETE")) else {"colour": 1}, **names)


def _ask_purchases(ask: Any, service: Service, user: str, order: str, *codes: str) -> str:
    """Gifts and checkouts, done and refused; the gifts' book."""
    checkout, gifts = (
        service.checkout,
        ask(service.manage, "POST /v1/books", {"name": "Gifts", "totalCodes": 1})["bookId"],
    )
    for who in (user, new_id()):
        ask(checkout, "POST /v1/users/{userId}/gifts", {"bookId": gifts, "orderId": order}, userId=who)
    bought = {"userId": user, "orderId": new_id("order"), "orderValue": 5}
    for more in ({}, {"giftBookId": gifts}, {"giftBookId": gifts}, *({"code": code} for code in codes)):
        ask(checkout, "POST /v1/checkout", bought | more)
    return gifts


def _ask_webhooks(ask: Any, client: httpx.Client) -> None:
    """Everything of a webhook's life."""
    said = {"url": "https://nobody.invalid/x", "events": ["reconcile.drift"], "description": "described"}
    names = {"webhookId": ask(client, "POST /v1/webhooks", said)["webhookId"]}
    ask(client, "GET /v1/webhooks", query="?limit=2")
    ask(client, "POST /v1/webhooks/{webhookId}/rotate", {}, **names)
    names["deliveryId"] = ask(client, "POST /v1/webhooks/{webhookId}/test", {}, **names)["deliveryId"]
    ask(client, "GET /v1/webhooks/{webhookId}/deliveries", **names)
    ask(client, "POST /v1/webhooks/{webhookId}/deliveries/{deliveryId}/redeliver", {}, **names)
    ask(client, "PATCH /v1/webhooks/{webhookId}", {"status": "inactive", "description": None}, **names)
    ask(client, "GET /v1/webhooks/{webhookId}", **names)
    for _ in range(2):
        ask(client, "DELETE /v1/webhooks/{webhookId}", **names)


class _Links(HTMLParser):
    """What a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in {"src", "href"} and value]


def test_the_page_loads_only_from_itself(service: Service, document: Document) -> None:
    """The page and all it loads come from here, and it shows this very document."""
    page = service.anonymous.get("/schema")
    assert page.headers["Content-Type"].startswith("text/html")
    links = _Links()
    links.feed(page.text)
    assert len(links.found) >= 3
    for link in links.found:
        assert link.startswith(("/schema/assets/", "data:")), link
        if link.startswith("/"):
            loaded = service.anonymous.get(link)
            assert loaded.status_code == 200
            assert not re.search(rb"@import|url\((?!['\"]?data:)['\"]?\w+:", loaded.content[:1_000_000]), link
    shown = re.search(r"spec: (\{.*\}),$", page.text, re.MULTILINE)
    assert shown
    assert json.loads(shown[1]) == document


def test_nothing_of_ours_is_hidden(service: Service) -> None:
    """Answers name neither the server's software nor its files."""
    for path in ("/", "/schema", "/v1/nothing", "/metrics"):
        answer = service.anonymous.get(path)
        assert "Server" not in answer.headers
        assert "Traceback" not in answer.text
    for accept in ("text/html", "application/xml", "*/*;q=0", "garbage"):
        assert ok(service.anonymous.get("/health/live", headers={"Accept": accept})) == {"status": "live"}
