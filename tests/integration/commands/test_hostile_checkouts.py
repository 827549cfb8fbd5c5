"""The checkouts of examples/ with what hurts a shop: a bad code, a hostile one, an expired lock, a lost answer, an
order that was rolled back. Money is kept exactly for what is redeemed."""

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from litestar.testing import TestClient

from examples import litestar_checkout, nightly
from scrip_client import Client
from tests.harness.plugin import require
from tests.harness.service_fixture import Service, new_code, new_id, ok
from tests.harness.trees import ROOT
from tests.harness.waiting import PATIENCE_S

HOSTILE = (
    "../redeem/{}", "..%2fredeem%2f{}", "{}/../../redeem/{}", "{}?a=b", "{}#", "./{}", "..", ".", "", " ", "%2e%2e",
    "\\..\\redeem\\{}", "{}\r\nX-Request-Id: x", "\ud800", "{}\0",
)  # fmt: skip
Answer = dict[str, Any]


class Front(ThreadingHTTPServer):
    """A proxy before the service, which loses answers; and the shop's payment provider, at /pay."""

    daemon_threads = True

    def __init__(self, url: str) -> None:
        self.service = httpx.Client(base_url=url, timeout=PATIENCE_S, verify=False)
        self.lost: Callable[[str], bool] = lambda path: False
        """Whether the answer to a request of this path is lost."""
        self.on_pay: Callable[[], object] = lambda: None
        self.paid: list[str] = []
        """The amounts."""
        super().__init__(("127.0.0.1", 0), _Handler)

    def pay(self, amount: str) -> None:
        self.paid.append(amount)
        self.on_pay()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    @property
    def _front(self) -> Front:
        assert isinstance(self.server, Front)
        return self.server

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path == "/pay":
            self._front.pay(json.loads(body)["amount"])
            return self._answer(204, b"")
        headers = {
            name: self.headers[name]
            for name in ("Authorization", "Content-Type", "Idempotency-Key")
            if name in self.headers
        }
        reply = self._front.service.request(self.command, self.path, content=body, headers=headers)
        if self._front.lost(self.path):  # and no other attempt within the deadline
            return self._answer(502, b"", "60")
        return self._answer(reply.status_code, reply.content)

    def _answer(self, status: int, body: bytes, retry_after: str = "0") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", retry_after)
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: object = "-", size: object = "-") -> None: ...


class Shop:
    """A workspace with a book of two codes, and one of the checkouts."""

    def __init__(self, service: Service, front: Front, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.service, self.front, self._kind = service, front, kind
        self.code, self.other, self.order = new_code(), new_code(), new_id("A")
        self.book = service.book(self.code, self.other, discount={"type": "percentage", "value": 20})
        self.environment = {"SCRIP_URL": front.url, "SCRIP_KEY": f"{service.workspace}_admin"}
        self.refunds = 0
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "examples.django_checkout")
        self._monkeypatch = monkeypatch

    def check_out(self, code: str, order: str = "", value: str = "120.00") -> Answer:
        """Buy, and return the answer with its status; a framework refuses some texts itself."""
        answer = {"status": "refused"} | getattr(self, f"_in_{self._kind}")(order or self.order, code, value)
        self.refunds += answer["status"] == "refund"
        return answer

    @property
    def kept(self) -> int:
        """How many payments the shop keeps."""
        return len(self.front.paid) - self.refunds

    def count(self) -> dict[str, int]:
        stats = ok(self.service.manage.get(f"/v1/books/{self.book}/stats"))
        return {name: stats[name] for name in ("available", "locked", "redeemed")}

    def refund(self) -> None:
        self.refunds += len(self.front.paid) > self.refunds

    def _in_litestar(self, order: str, code: str, value: str) -> Answer:
        async def pay(_: object, amount: object) -> None:
            self.front.pay(str(amount))

        async def refund(_: object) -> None:
            self.refund()

        self._monkeypatch.setattr(litestar_checkout, "pay", pay)
        self._monkeypatch.setattr(litestar_checkout, "refund", refund)
        with TestClient(litestar_checkout.app) as client:
            body = json.dumps({"order_id": order, "user_id": "ann", "code": code, "value": value})
            answer = client.post("/checkout", content=body, headers={"Content-Type": "application/json"})
        return answer.json() | litestar_checkout.ORDERS.pop(order, {})

    def _in_django(self, order: str, code: str, value: str) -> Answer:
        from django.test import Client as Browser

        from examples import django_checkout

        self._monkeypatch.setattr(django_checkout, "pay", lambda _, amount: self.front.pay(str(amount)))
        self._monkeypatch.setattr(django_checkout, "refund", lambda _: self.refund())
        body = json.dumps({"orderId": order, "userId": "ann", "code": code, "value": value})
        answer: Any = Browser().post("/checkout", body, content_type="application/json")
        django_checkout.connect().close()
        django_checkout.connect.cache_clear()
        return answer.json() | django_checkout.ORDERS.pop(order, {})

    def _in_node(self, order: str, code: str, value: str) -> Answer:
        text = json.dumps({"orderId": order, "userId": "ann", "code": code, "value": value})
        environment = {**os.environ, **self.environment, "PAYMENT_URL": f"{self.front.url}/pay"}
        command = [require("node"), "checkout.mjs", text]
        done = subprocess.run(command, cwd=ROOT / "examples", env=environment, capture_output=True, check=True)
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def workspace(service: Service) -> Service:
    return service.make_workspace(new_id("shop"), "test")


@pytest.fixture(params=["litestar", "django", "node"])
def shop(request: pytest.FixtureRequest, workspace: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    front = Front(workspace.run.url)
    thread = threading.Thread(target=front.serve_forever)
    thread.start()
    try:
        yield Shop(workspace, front, request.param, monkeypatch)
    finally:
        front.shutdown()
        front.server_close()
        thread.join()
        front.service.close()


def test_a_bad_code(shop: Shop) -> None:
    """A code that is unknown, that gives nothing, or that was used, is refused, and nothing is paid for it."""
    assert shop.check_out("NO-SUCH-CODE")["code"] == "coupon_not_found"
    assert shop.check_out(shop.code, value="0.00")["code"] == "no_discount"
    assert shop.front.paid == []
    assert shop.count() == {"available": 2, "locked": 0, "redeemed": 0}
    assert shop.check_out(shop.code, f"{shop.order}-2") == {"status": "paid", "amount": "96.00"}
    assert shop.check_out(shop.code, f"{shop.order}-3")["code"] == "coupon_redeemed"
    assert shop.front.paid == ["96.00"]


def test_a_hostile_code(shop: Shop) -> None:
    """A text that would lead to another request is no code: nothing is paid, locked or redeemed."""
    for number, template in enumerate(HOSTILE):
        code = template.replace("{}", shop.other)
        answer = shop.check_out(code, f"{shop.order}-{number}")
        assert answer["status"] == "refused", (code, answer)
    assert shop.front.paid == []
    assert shop.count() == {"available": 2, "locked": 0, "redeemed": 0}


def test_an_expired_lock(shop: Shop) -> None:
    """Where the lock ends while the customer pays, the money goes back, also where the code is still free."""
    shop.front.on_pay = lambda: ok(shop.service.operate.post("/v1/test/clock", json={"now": "2036-11-27T00:00:00Z"}))
    try:
        answer = shop.check_out(shop.code)
        assert shop.count() == {"available": 2, "locked": 0, "redeemed": 0}
    finally:
        ok(shop.service.operate.post("/v1/test/clock", json={}))
    assert (answer["status"] in ("refund", "refused"), answer["code"]) == (True, "lock_lost")
    assert (len(shop.front.paid), shop.kept) == (1, 0)


def test_a_lost_answer(shop: Shop) -> None:
    """Where no answer comes in time, the order is unknown with its payment, and the nightly job settles it."""
    shop.front.lost = lambda path: "/redeem/" in path
    code = shop.code.lower()
    answer = shop.check_out(code)
    assert (answer["status"], shop.kept) == ("unknown", 1)
    shop.front.lost = lambda path: False
    row = {"orderId": shop.order, "userId": "ann", "value": "120.00", "status": "unknown"}
    row |= {name: answer[name] for name in ("code", "lockToken")}
    with Client(shop.front.url, shop.environment["SCRIP_KEY"]) as client:
        assert list(nightly.run(client, [row], shop.book)) == []
        other = row | {"lockToken": ""}
        assert next(nightly.run(client, [other], shop.book)) == f"{shop.order}: unknown: idempotency_key_reused"
    assert shop.count() == {"available": 1, "locked": 0, "redeemed": 1}


def test_a_lost_answer_to_the_lock(shop: Shop) -> None:
    """Where the lock's answer does not come, nothing is paid."""
    shop.front.lost = lambda path: "/lock/" in path
    if shop._kind == "node":
        with pytest.raises(subprocess.CalledProcessError):
            shop.check_out(shop.code)
    else:
        assert shop.check_out(shop.code)["status"] == "refused"
    assert shop.front.paid == []


def test_an_order_that_was_rolled_back(shop: Shop) -> None:
    """An order that was rolled back is not sold a second time: the shop keeps the first payment alone, and the code is
    free. The nightly job names an order that the shop counts as paid."""
    assert shop.check_out(shop.code)["status"] == "paid"
    ok(shop.service.manage.post(f"/v1/orders/{shop.order}/rollback", json={"reason": "cancelled"}))
    assert shop.check_out(shop.code)["status"] in ("refund", "refused")
    assert shop.kept == 1
    assert shop.count() == {"available": 2, "locked": 0, "redeemed": 0}
    row = {
        "orderId": shop.order,
        "userId": "ann",
        "code": shop.code,
        "value": "120.00",
        "status": "paid",
        "lockToken": "",
    }
    with Client(shop.front.url, shop.environment["SCRIP_KEY"]) as client:
        assert list(nightly.run(client, [row], shop.book)) == [f"{shop.order}: Scrip has not redeemed {shop.code}"]
        assert list(nightly.run(client, [row | {"status": "cancelled"}], shop.book)) == []
