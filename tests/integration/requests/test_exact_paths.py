"""A path that is not exactly a route's is not found, whatever it would be after normalization."""

import contextlib
import re

import pytest

from tests.harness.service_fixture import Service, new_code, ok, refused
from tests.harness.serving import RawConnection, own_workspace

_PAGES = ("/console", "/checkout", "/schema")
"""Their addresses may end with one slash."""
_OTHERS = (*_PAGES, "/metrics", "/problems", "/console/session", "/console/data/overview")


service = own_workspace("live")


def _vary(path: str) -> list[str]:
    """Paths that routers often take for this one."""
    slashes = [found.start() for found in re.finditer("/", path)]
    doubled = [path[:at] + "/" + path[at:] for at in slashes]
    encoded = [path[:at] + name + path[at + 1 :] for at in slashes[1:] for name in ("%2F", "%2f")]
    return [f"{path}/", f"{path}//", f"{path}%2F", *doubled, *encoded]


def test_paths_that_are_nearly_a_route_s(service: Service) -> None:
    """Each method of each address is not found with one more slash, or with an encoded one."""
    failures, seen = list[str](), 0
    paths = service.anonymous.get("/schema/openapi.json").json()["paths"]
    for path, methods in [*paths.items(), *((path, {"get": {}}) for path in _OTHERS)]:
        for other in _vary(re.sub(r"\{\w+\}", "AAAA", path)):
            for method in [*methods, "options", "put"] if other[:-1] not in _PAGES else ():
                answer = service.admin.request(method.upper(), service.run.url + other, json={"userId": "ann"})
                seen += 1
                if (answer.status_code, answer.json()["code"]) != (404, "not_found"):
                    failures.append(f"{method} {other}: {answer.status_code} {answer.text[:100]}")
    assert failures == []
    assert seen > 2_000


def test_the_address_that_is_meant(service: Service) -> None:
    """The refusal names the address that is meant."""
    for other in ("/v1/books/", "//v1/books", "/v1//books", "/v1%2fbooks"):
        problem = refused(service.manage.get(service.run.url + other), 404, "not_found")
        assert "perhaps `GET /v1/books` is meant" in problem["detail"]


def test_a_code_is_redeemed_at_its_address_only(service: Service) -> None:
    """On the hot path nothing is done at a path that is nearly a route's, with and without a fast lane's head."""
    code = new_code()
    book = service.book(code)
    for other in _vary(f"/v1/coupons/redeem/{code}"):
        refused(service.checkout.post(service.run.url + other, json={"userId": "ann"}), 404, "not_found")
    assert service.stats(book)["redemptions"] == 0
    ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "ann"}), 201)


def test_other_characters_may_be_encoded(service: Service) -> None:
    """A percent-encoded letter is the letter; the root is exact."""
    assert ok(service.manage.get("/v1/%62ooks")) == ok(service.manage.get("/v1/books"))
    code = new_code()
    service.book(code)
    assert ok(service.manage.get(f"/v1/coupons/{code[:-1]}%{ord(code[-1]):02x}"))["code"] == code
    assert service.anonymous.get("/").is_success
    assert service.anonymous.get("?x=//%2F/").status_code in (200, 400)
    assert ok(service.manage.get("/v1/books?q=a//b%2F/"))["items"] == []


@pytest.mark.parametrize("target", ["/v1/books#", "/v1/books#x", "/#", "/v1/books?limit=1#x", "/v1/coupons/redeem/A#"])
def test_fragments(service: Service, target: str) -> None:
    """A path or query with a `#`, which no HTTP client sends, is malformed."""
    with contextlib.closing(RawConnection(int(service.run.url.rpartition(":")[2]))) as wire:
        wire.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = wire.answer().decode()
    assert answer.startswith("HTTP/1.1 400 ")
    assert '"code":"malformed"' in answer
    assert "percent-encode it as %23" in answer
