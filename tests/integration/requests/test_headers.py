"""Headers for browsers, allowed origins, and the client's address behind a proxy."""

import ipaddress
import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.harness.service_fixture import Service, new_code, new_id, ok
from tests.harness.serving import Served, without_ids

SHOP = "https://shop.example"
_CLIENT = "198.51.100.7"


@pytest.fixture(scope="module")
def behind(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Served]]:
    """Servers with and without the fast lane that trust this machine as a proxy and allow one origin."""
    settings: dict[str, Any] = {"trusted_proxies": (ipaddress.ip_network("127.0.0.0/8"),), "cors_origins": (SHOP,)}
    folder = tmp_path_factory.mktemp("behind")
    with Served(service, folder, **settings) as hot, Served(service, folder, hot=False, **settings) as cold:
        yield hot, cold


def _sent(served: Served, address: str, body: dict[str, Any] | None = None, *more: str) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    lines = "".join(f"{line}\r\n" for line in more)
    head = f"{address} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer demo_admin\r\n{lines}"
    wire = served.connect()
    wire.send(f"{head}Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)
    with closing(wire):
        return wire.answer()


@pytest.mark.parametrize(
    "path", ["/", "/v1/books", "/v1/coupons/NO-SUCH", "/v1/nothing", "/health/ready", "/metrics", "/schema",
             "/schema/openapi.json", "/checkout", "/checkout/assets/checkout.js", "/console", "/console/session",
             "/schema/assets/schema.js", "/problems/expired", "/requests/1"]
)  # fmt: skip
def test_every_answer(service: Service, path: str) -> None:
    """Every response has nosniff, no-referrer, a policy without framing, and Cache-Control once; under /v1 it is
    no-store."""
    for client in (service.anonymous, service.manage):
        headers = client.get(path, follow_redirects=True).headers
        assert headers.get_list("X-Content-Type-Options") == ["nosniff"]
        assert headers.get_list("Referrer-Policy") == ["no-referrer"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert len(headers.get_list("Content-Security-Policy")) == len(headers.get_list("Cache-Control")) == 1
        assert headers["Cache-Control"] == "no-store" or not path.startswith("/v1")
        assert "Access-Control-Allow-Origin" not in headers


def test_origins_are_off_by_default(service: Service) -> None:
    """Without the setting no response, not even to a preflight, allows an origin."""
    for origin in (SHOP, "null", service.run.url):
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        for answer in (
            service.manage.get("/v1/books", headers=asked),
            service.checkout.post("/v1/coupons/lock/NO-SUCH", json={"userId": "u"}, headers=asked),
            service.anonymous.options("/v1/coupons/lock/NO-SUCH", headers=asked),
        ):
            assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_origins(behind: tuple[Served, Served]) -> None:
    """Pages of a configured origin may read every response, refusals too; pages of other origins none."""
    for origin, allowed in (
        (SHOP, True), ("https://shop.example.evil.example", False), ("http://shop.example", False), ("null", False),
        ("https://shop.example:8443", False), (SHOP.upper(), False), ("", False),
    ):  # fmt: skip
        for address, body in (("POST /v1/coupons/lock/NO-SUCH", {"userId": "u"}), ("GET /v1/books", None)):
            hot, cold = (without_ids(_sent(served, address, body, f"Origin: {origin}")) for served in behind)
            assert hot == cold
            assert (b"\r\naccess-control-allow-origin: https://shop.example\r\n" in hot) is allowed
            assert hot.count(b"access-control-allow-origin") == allowed
            assert b"\r\nvary: Origin\r\n" in hot
    asked = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization")
    answer = _sent(behind[0], "OPTIONS /v1/coupons/redeem/ABCD", None, f"Origin: {SHOP}", *asked)
    assert b"\r\naccess-control-allow-methods: OPTIONS, POST\r\n" in answer
    assert b"\r\naccess-control-allow-headers: Authorization, Content-Type, Idempotency-Key," in answer
    assert b"credentials" not in answer
    answer = _sent(behind[0], "OPTIONS /v1/coupons/redeem/ABCD", None, "Origin: https://evil.example", *asked)
    assert b"access-control" not in answer


@pytest.mark.parametrize("way", [0, 1], ids=["lane", "litestar"])
def test_the_address_behind_a_proxy(service: Service, behind: tuple[Served, Served], way: int) -> None:
    """A redemption stores the last address that is not a trusted proxy's, from one header or several, hot or not."""
    for more, address in (
        ((), "127.0.0.1"),
        ((f"X-Forwarded-For: 203.0.113.1, {_CLIENT}",), _CLIENT),
        (("X-Forwarded-For: 203.0.113.1", f"x-forwarded-for: {_CLIENT}, 127.0.0.9"), _CLIENT),
        (("X-Forwarded-For: not-an-address",), "127.0.0.1"),
        (("Forwarded: for=203.0.113.1", "X-Real-IP: 203.0.113.1"), "127.0.0.1"),
    ):
        code = new_code()
        service.book(code)
        before = behind[way].elsewhere
        answer = _sent(behind[way], f"POST /v1/coupons/redeem/{code}", {"userId": new_id()}, *more)
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["ipAddress"] == address
        assert behind[way].elsewhere - before == (way == 1 or (len(more) == 2 and more[1].startswith("x-f")))


def test_proxies_are_off_by_default(service: Service) -> None:
    """Without the setting a redemption stores the connection's address, whatever the header is."""
    for path in ("/v1/coupons/redeem/{}", "/v1/coupons/redeem/{}?"):  # the second is Litestar's
        code = service.coupon()
        forwarded = {"X-Forwarded-For": _CLIENT}
        response = service.checkout.post(path.format(code), json={"userId": new_id()}, headers=forwarded)
        assert ok(response, 201)["ipAddress"] == "127.0.0.1"
