"""Bad bodies, fields, headers, addresses and queries are refused as the contract says, and change nothing."""

import base64
import copy
import gzip
import json
import re
import socket
from collections import defaultdict
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from service.engine.domain.outcomes import BY_CODE
from service.server.requests import page_cursors
from tests.harness.cases import WorkspaceSetup, filled
from tests.harness.described import Route
from tests.harness.routes.setup import make_setup, send, unchanged
from tests.harness.routes.table import REQUESTS
from tests.harness.service_fixture import Service, ok, refused
from tests.harness.serving import own_workspace

_MISSING = object()
_JSON = {"Content-Type": "application/json"}
_BODIES = {asked.name: asked for asked in REQUESTS}.values()
_HOT = [asked for asked in _BODIES if asked.hot]
_CHANGING_NOTHING = ("/validate", "/rejected.csv")
_POSTS = [asked for asked in _BODIES if asked.method == "POST" and not asked.named.endswith(_CHANGING_NOTHING)]
_DURABLE = [asked for asked in _HOT if any(verb in asked.named for verb in ("assign", "redeem", "rollback"))]

_NOT_CODES = ("ABC", "x" * 65, "a%20bc", "abcd%0a", "%00abc", "%ff%fe%fd%fc", "a.bc", "LOCK", "USER-specific")


service = own_workspace("test")


@pytest.fixture(scope="module")
def setup(service: Service) -> WorkspaceSetup:
    """A book with a free code, a redeemed one, and its order."""
    return make_setup(service)


@pytest.fixture(scope="module", autouse=True)
def nothing_changes(service: Service, setup: WorkspaceSetup) -> Iterator[None]:
    """All refusals of this file together change nothing."""
    with unchanged(service):
        yield


def _good(asked: Route, setup: WorkspaceSetup) -> bytes:
    return json.dumps(filled(asked.good.body, setup)).encode()


def _id(asked: Route) -> str:
    return asked.name + (" " + next(iter(asked.good.fields)) if any("." in name for name in asked.good.fields) else "")


@pytest.mark.parametrize("asked", _BODIES, ids=_id)
def test_bodies_that_are_not_objects(service: Service, setup: WorkspaceSetup, asked: Route) -> None:
    """A body that is not one JSON object in UTF-8 is malformed: empty, cut off, an array, or nested without end."""
    for body in (
        b"", b"{", _good(asked, setup) + b"}", b"[]", b"null", b"\xff\xfe{}", b"\xef\xbb\xbf{}", b"[" * 60_000,
    ):  # fmt: skip
        refused(send(service, asked, setup, body), 400, "malformed", "body")


@pytest.mark.parametrize("asked", _HOT, ids=_id)
def test_large_bodies(service: Service, setup: WorkspaceSetup, asked: Route) -> None:
    """The hot path reads 64 KiB, announced or in chunks, and refuses more before it decodes."""
    good = _good(asked, setup)[:-1]
    fits = good + b" " * ((64 << 10) - len(good) - 3) + b"!}\n"
    assert len(fits) == 64 << 10
    refused(send(service, asked, setup, fits), 400, "malformed", "body")
    refused(send(service, asked, setup, fits + b"\n"), 413, "too_large")
    client: httpx.Client = getattr(service, asked.scope)
    chunked = client.request(asked.method, asked.named.format_map(setup), content=iter([fits, b"\n"]), headers=_JSON)
    refused(chunked, 413, "too_large")


def test_every_refusal_is_documented(service: Service) -> None:
    """The address in a problem's `type` has its code, `for`, title and remedy, and sends a browser to its page."""
    problems = service.anonymous
    assert refused(problems.get("/v1/books"), 401, "unauthenticated")["type"].endswith("/problems/unauthenticated")
    assert len(ok(problems.get("/problems"))) == len(BY_CODE)
    for code in BY_CODE:
        documented = ok(problems.get(f"/problems/{code}"))
        assert (documented["code"], documented["for"]) == (code, BY_CODE[code].for_)
        page = problems.get(f"/problems/{code}", headers={"Accept": "text/html"})
        assert (page.status_code, page.headers["Location"]) == (302, f"/schema#{code}")


@pytest.mark.parametrize("asked", _BODIES, ids=_id)
def test_media_types(service: Service, setup: WorkspaceSetup, asked: Route) -> None:
    """Only JSON in UTF-8 without a content coding is read (a file of codes or users is CSV or text as well)."""
    body = _good(asked, setup)
    kinds = ("", "text/html", "application/xml", "application/x-www-form-urlencoded", "application/jsonp",
             "application/json; charset=utf-16", "text/csv; charset=latin-1",
             "json", "*/*", "multipart/form-data; boundary=x")  # fmt: skip
    for kind in kinds:
        refused(send(service, asked, setup, body, Content_Type=kind), 415, "unsupported_media_type")
    for coding in ("gzip", "gzip, gzip", "x-gzip", "deflate", "br", "zstd"):
        packed = gzip.compress(body)
        refused(send(service, asked, setup, packed, Content_Encoding=coding), 415, "unsupported_media_type")
    refused(send(service, asked, setup, b"", Content_Type="text/html"), 415, "unsupported_media_type")
    client: httpx.Client = getattr(service, asked.scope)
    without = client.request(asked.method, filled(asked.named, setup), content=body)
    refused(without, 415, "unsupported_media_type")
    if not asked.named.endswith(("{book}/codes", "/rejected.csv", "/codes/change")):
        refused(send(service, asked, setup, body, Content_Type="text/plain"), 415, "unsupported_media_type")


@pytest.mark.parametrize("asked", _BODIES, ids=_id)
def test_unexpected_queries(service: Service, setup: WorkspaceSetup, asked: Route) -> None:
    """A request with a body refuses a query parameter and names it."""
    refused(send(service, asked, setup, _good(asked, setup), query="?colour=red"), 400, "malformed", "colour")
    refused(send(service, asked, setup, _good(asked, setup), query="?userId=u"), 400, "malformed", "userId")
    refused(send(service, asked, setup, _good(asked, setup), query="?x"), 400, "malformed", "query")


@pytest.mark.parametrize("asked", _POSTS, ids=_id)
def test_idempotency_keys(service: Service, setup: WorkspaceSetup, asked: Route) -> None:
    """An Idempotency-Key is 1 to 255 printable ASCII characters."""
    client: httpx.Client = getattr(service, asked.scope)
    faults = {
        b"": "0 characters",
        b"k" * 256: "256 characters",
        b"\xc3\xa9": "1",
        b"a\tb": "a tab at position 2",
        b"\xff": "1",
    }
    for key, fault in faults.items():
        headers = [(b"Content-Type", b"application/json"), (b"Idempotency-Key", key)]
        for query in ("", "?dryRun=true") if asked.named.endswith(("{book}/codes", "/codes/change")) else ("",):
            path = asked.named.format_map(setup) + query
            answer = client.post(path, content=_good(asked, setup), headers=headers)
            problem = refused(answer, 400, "malformed", "Idempotency-Key")
            assert problem["detail"].endswith(f"{fault}.")


@pytest.mark.parametrize("asked", _DURABLE, ids=_id)
def test_preferences(service: Service, setup: WorkspaceSetup, asked: Route) -> None:
    """A wait that is not a number of seconds up to 10, and another or misspelt durability, are refused before the
    change."""
    for wait in ("99", "11", "-1", "x", "1.5", '""', "9" * 5000):
        answer = send(service, asked, setup, _good(asked, setup), Prefer=f"durability=recorded, wait={wait}")
        refused(answer, 400, "malformed", "Prefer")
    for preference in ("durability=recordd", "DURABILITY", "durability=recorded-not", "durabilty=recorded"):
        answer = send(service, asked, setup, _good(asked, setup), Prefer=f"respond-async, {preference}")
        refused(answer, 400, "malformed", "Prefer")


@pytest.mark.parametrize("asked", [asked for asked in _BODIES if "{code}" in asked.named], ids=_id)
def test_texts_that_are_not_codes(service: Service, setup: WorkspaceSetup, asked: Route) -> None:
    """An address with a text that can't be a code is 404 `coupon_not_found`."""
    for code in _NOT_CODES:
        answer = send(service, asked, setup | {"code": code}, _good(asked, setup))
        refused(answer, 404, "coupon_not_found")


def test_validate_refuses_texts_that_are_not_codes(service: Service) -> None:
    """Validate gives a text that can't be a code the reason of an unknown code."""
    for code in ("", "ABC", "x" * 65, "a bc", "LOCK", "é" * 5, "abcd\n", "NOTHING-HERE", "\0" * 4):
        answer = ok(service.checkout.post("/v1/coupons/validate", json={"code": code}))
        assert (answer["valid"], answer["reasons"], answer["coupon"]) == (False, ["coupon_not_found"], None)


def _list_paths(service: Service, setup: WorkspaceSetup) -> set[str]:
    """The paths of all lists that take a cursor."""
    paths = service.anonymous.get("/schema/openapi.json").json()["paths"].items()
    parameters = {path: operations.get("get", {}).get("parameters", ()) for path, operations in paths}
    lists = [path for path, some in parameters.items() if any(one["name"] == "cursor" for one in some)]
    return {filled(re.sub(r"\{(\w+?)(?:Id)?\}", r"{\1}", path), setup) for path in lists}


_CURSORS = [
    base64.urlsafe_b64encode(json.dumps([name, number, *more]).encode()).decode().rstrip("=")
    for name in page_cursors.by_name
    for number in (2**31 - 1, 2**63 - 1)
    for more in ([], [number], ["ABCD"])
]
"""Cursors of all lists, with the largest integers of Postgres's types."""


def test_extreme_cursors(service: Service, setup: WorkspaceSetup) -> None:
    """At every list, a cursor with the largest integer of a Postgres type returns a page or 400 `malformed`."""
    failures: list[str] = []
    for path in _list_paths(service, setup) | {f"/console/data/{name}" for name in ("books", "jobs", "redemptions")}:
        for cursor in _CURSORS:
            answer = service.admin.get(path, params={"cursor": cursor, "limit": 1})
            if answer.status_code != 200 and (answer.status_code, answer.json().get("code")) != (400, "malformed"):
                failures.append(f"{path} {cursor}: {answer.status_code} {answer.text[:200]}")
    assert failures == []


def test_queries_of_lists(service: Service, setup: WorkspaceSetup) -> None:
    """A list takes a limit of 1 to 1,000 and its own cursor, each at most once, and no unknown parameter."""
    paths = _list_paths(service, setup)
    assert len(paths) >= len(page_cursors.by_name) - 2
    queries = (
        ("limit=0", 422, "limit"), ("limit=-1", 422, "limit"), ("limit=1001", 422, "limit"), ("limit=", 400, "limit"),
        ("limit=x", 400, "limit"), ("limit=1.5", 400, "limit"), (f"limit={2**70}", 422, "limit"),
        ("limit=1&limit=2", 400, "query"), ("cursor=x", 400, "cursor"), ("cursor=", 400, "cursor"),
        ("cursor=%C3%A9", 400, "cursor"), ("cursor=%00", 400, "cursor"), ("cursor=" + "A" * 5000, 400, "cursor"),
        ("cursor=WyJib29rcyIsLTFd", 400, "cursor"), ("cursor=AAAA", 400, "cursor"), ("cursor=%ff", 400, "query"),
        ("colour=red", 400, "colour"), ("Limit=1", 400, "Limit"), ("limit", 400, "query"),
        ("&".join(f"a{number}=1" for number in range(100)), 400, "query"),
    )  # fmt: skip
    for path in paths:
        for query, status, field in queries:
            refused(service.admin.get(f"{path}?{query}"), status, "malformed" if status == 400 else "invalid", field)


@pytest.mark.parametrize("path", ["/v1/books", "/v1/coupons", "/v1/books/{book}/codes", "/v1/users/{user}/coupons"])
def test_null_in_a_query_is_a_text(service: Service, setup: WorkspaceSetup, path: str) -> None:
    """`null` in a query is a text: an invalid status, and a filter that matches no book."""
    url = path.format_map(setup)
    for text in ("null", "NULL", "None"):
        refused(service.admin.get(f"{url}?status={text}"), 422, "invalid", "status")
    assert ok(service.admin.get("/v1/books?q=null&tag=null"))["items"] == []


def test_control_characters_in_queries(service: Service, setup: WorkspaceSetup) -> None:
    """A parameter with a control character is refused in every query of the document: Postgres stores no NUL."""
    ids = {"bookId": setup["book"], "webhookId": setup["webhook"], "userId": setup["user"], "code": setup["code"]}
    wrong: list[str] = []
    for path, operations in service.anonymous.get("/schema/openapi.json").json()["paths"].items():
        asked = [one["name"] for one in operations.get("get", {}).get("parameters", ()) if one["in"] == "query"]
        for name, text in ((name, text) for name in asked for text in ("\0", "a\0b", "a\nb", "\x7f", "\x85")):
            answer = service.admin.get(path.format_map(defaultdict(lambda: str(uuid4()), ids)), params={name: text})
            if answer.status_code not in (400, 404, 422):
                wrong.append(f"{path} {name}={text!r}: {answer.status_code}")
    assert wrong == []


def test_the_query_of_validate(service: Service, setup: WorkspaceSetup) -> None:
    """A validation by address refuses a bad user, value or currency, and names it."""
    for query, status, field in (
        ("userId=", 422, "userId"), ("userId=%2e%2e", 422, "userId"), ("orderValue=", 400, "orderValue"),
        ("orderValue=NaN", 400, "orderValue"), ("orderValue=1e1", 400, "orderValue"),
        ("orderValue=-1", 422, "orderValue"),
        ("orderValue=1.001", 422, "orderValue"), ("currency=usd", 422, "currency"), ("currency=", 422, "currency"),
        ("currency=USD&currency=USD", 400, "query"), ("orderId=a", 400, "orderId"), ("lockToken=a", 400, "lockToken"),
    ):  # fmt: skip
        answer = service.public.get(f"/v1/coupons/{setup['code']}/validate?{query}")
        refused(answer, status, "malformed" if status == 400 else "invalid", field)


def test_an_upload_cut_off(service: Service, setup: WorkspaceSetup) -> None:
    """A request whose body ends early changes nothing."""
    port = int(service.run.url.rpartition(":")[2])
    for path, kind in (
        (f"/v1/books/{setup['book']}/codes", "application/json"),
        ("/v1/coupons/assign", "application/json"),
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer demo_admin\r\nContent-Type: {kind}\r\n"
            connection.sendall(f'{head}Content-Length: 5000\r\n\r\n{{"codes": ["CUT-OFF-1"'.encode())
    refused(service.checkout.get("/v1/coupons/CUT-OFF-1"), 404, "coupon_not_found")


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


@pytest.mark.parametrize("asked", REQUESTS, ids=_id)
def test_what_a_field_cannot_be(service: Service, setup: WorkspaceSetup, asked: Route) -> None:
    """Every field refuses what can't be decoded with 400, and what is out of its bounds with 422."""
    wrong: list[str] = []
    for name, kind in asked.good.fields.items():
        cases: list[tuple[Any, int, str]] = [(value, 400, "malformed") for value in kind.malformed]
        cases += [(value, 422, "invalid") for value in kind.invalid]
        cases += [(value, 404, "book_not_found") for value in kind.not_found]
        if name in asked.good.required.split():
            cases += [(_MISSING, 400, "malformed"), (None, 400, "malformed")]
        if name in asked.good.never_null.split():
            cases.append((None, 400, "malformed"))
        good = filled(asked.good.body, setup)
        for value, status, code in cases:
            answer = send(service, asked, setup, _with(good, name, value))
            problem = answer.json()
            fields = [] if status == 404 else [re.sub(r"\.\d+", "", name)]
            if (answer.status_code, problem.get("code"), _names(problem)) != (status, code, fields):
                text = "(missing)" if value is _MISSING else repr(value)[:60]
                wrong.append(f"{name} = {text}: {status} {code} wanted, got {answer.status_code} {answer.text[:300]}")
    assert wrong == []


@pytest.mark.parametrize("asked", REQUESTS, ids=_id)
def test_unknown_fields(service: Service, setup: WorkspaceSetup, asked: Route) -> None:
    """An unknown field of an otherwise good request is refused and named."""
    parents = {name.rpartition(".")[0] for name in asked.good.fields} | {""}
    for parent in parents:
        for unknown in ("colour", ""):
            path = f"{parent}.{unknown}" if parent else unknown
            answer = send(service, asked, setup, _with(filled(asked.good.body, setup), path, None))
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (400, "malformed"), answer.text
            if unknown:
                assert _names(problem) == [re.sub(r"\.\d+", "", path)]
