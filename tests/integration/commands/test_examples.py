"""The examples, run against a service whose API or worker is killed in the middle."""

import csv
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from examples import email_codes, litestar_checkout, nightly, webhook_receiver
from scrip_client import Client
from tests.harness.plugin import require
from tests.harness.service_fixture import Service, new_id, ok
from tests.harness.waiting import PATIENCE_S, until

EXAMPLES = Path(__file__).parents[3] / "examples"
GENERAL = "The code can't be used now."
"""What a customer reads where the refusal is not for the shopper."""


class Shop:
    """A workspace with a book of two codes, at a service whose processes are killed."""

    def __init__(self, service: Service) -> None:
        self.service = service.make_workspace(new_id("shop"), "live")
        self.run = service.run
        self.book = self.service.book("MAIL-1", "MAIL-2", discount={"type": "percentage", "value": 20})
        self.environment = {"SCRIP_URL": self.run.url, "SCRIP_KEY": f"{self.service.workspace}_admin"}

    def kill(self, part: str = "api") -> None:
        """Kill the process of a part, without waiting for the next one."""
        (pid,) = self.run.facts["pids"][part]
        os.kill(pid, signal.SIGKILL)

    def connect(self) -> Client:
        return Client(self.run.url, f"{self.service.workspace}_admin", deadline_s=PATIENCE_S)

    def count(self) -> dict[str, int]:
        """How many codes have which status."""
        stats = ok(self.service.manage.get(f"/v1/books/{self.book}/stats"))
        return {name: stats[name] for name in ("available", "locked", "redeemed")}


@pytest.fixture
def shop(patient: Service, monkeypatch: pytest.MonkeyPatch) -> Shop:
    made = Shop(patient)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


@contextmanager
def _serving(server: HTTPServer) -> Iterator[str]:
    """The address of a server that runs inside the block."""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_checkout_in_litestar(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API is killed while the customer pays: the order is paid once, with its discount."""

    async def pay(order: litestar_checkout.Order, amount: object) -> None:
        assert str(amount) == "96.00"
        shop.kill()

    monkeypatch.setattr(litestar_checkout, "pay", pay)
    order = {"order_id": "A-1", "user_id": "ann", "code": "MAIL-1", "value": "120.00"}
    with TestClient(litestar_checkout.app) as client:
        assert client.post("/checkout", json=order).json() == {"status": "paid", "amount": "96.00"}
        again = client.post("/checkout", json=order | {"order_id": "A-2", "user_id": "bob"})
        free = client.post("/checkout", json=order | {"order_id": "A-3", "code": "MAIL-2", "value": "0.00"})
    for answer, code in ((again, "coupon_redeemed"), (free, "no_discount")):
        assert (answer.status_code, answer.json()["status"], answer.json()["code"]) == (409, "refused", code)
        assert answer.json()["message"] not in ("", GENERAL)
    assert {order: row["status"] for order, row in litestar_checkout.ORDERS.items()} == {
        "A-1": "paid", "A-2": "refused", "A-3": "refused",
    }  # fmt: skip
    assert shop.count() == {"available": 1, "locked": 0, "redeemed": 1}


def test_a_checkout_in_django(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in Django."""
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "examples.django_checkout")
    from django.test import Client as Browser

    from examples import django_checkout

    monkeypatch.setattr(django_checkout, "pay", lambda order_id, amount: shop.kill())
    order = {"orderId": "A-1", "userId": "ann", "code": "MAIL-1", "value": "120.00"}
    answer: Any = Browser().post("/checkout", order, content_type="application/json")
    django_checkout.connect().close()
    django_checkout.connect.cache_clear()
    assert (answer.status_code, answer.json()) == (200, {"status": "paid", "amount": "96.00"})
    assert django_checkout.ORDERS == {"A-1": {"status": "paid"}}
    assert shop.count() == {"available": 1, "locked": 0, "redeemed": 1}


def test_a_checkout_in_node(shop: Shop) -> None:
    """The same in Node, without a client."""
    paid: list[Any] = []

    class Provider(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            paid.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            shop.kill()
            self.send_response(204)
            self.end_headers()

    order = {"orderId": "A-1", "userId": "ann", "code": "MAIL-1", "value": "120.00"}
    with _serving(HTTPServer(("127.0.0.1", 0), Provider)) as address:
        environment = {**os.environ, **shop.environment, "PAYMENT_URL": address}

        def check_out(order: dict[str, str]) -> Any:
            command = [require("node"), "checkout.mjs", json.dumps(order)]
            return json.loads(
                subprocess.run(command, cwd=EXAMPLES, env=environment, capture_output=True, check=True).stdout
            )

        assert check_out(order) == {"status": "paid", "amount": "96.00"}
        wrong = check_out(order | {"orderId": "A-2", "code": "MAIL-2", "value": "120,00"})
    assert wrong == {"status": "refused", "code": "malformed", "message": GENERAL}
    assert paid == [{"orderId": "A-1", "amount": "96.00"}]
    assert shop.count() == {"available": 1, "locked": 0, "redeemed": 1}


def test_the_nightly_job(shop: Shop) -> None:
    """While the API is dead the job settles an unknown order, rolls a cancelled one back, and names what differs."""
    for user, code in (("ann", "MAIL-1"), ("bob", "MAIL-2")):
        redeem = {"userId": user, "orderId": f"A-{user}", "orderValue": "50.00"}
        ok(shop.service.checkout.post(f"/v1/coupons/redeem/{code}", json=redeem), 201)
    orders = [
        {
            "orderId": "A-ann",
            "userId": "ann",
            "code": "MAIL-1",
            "value": "50.00",
            "status": "cancelled",
            "lockToken": "",
        },
        {"orderId": "A-bob", "userId": "bob", "code": "MAIL-2", "value": "50.00", "status": "unknown", "lockToken": ""},
        {
            "orderId": "A-cleo",
            "userId": "cleo",
            "code": "MAIL-2",
            "value": "50.00",
            "status": "unknown",
            "lockToken": "",
        },
        {"orderId": "A-dora", "userId": "dora", "code": "MAIL-1", "value": "50.00", "status": "paid", "lockToken": ""},
    ]
    shop.kill()
    with shop.connect() as client:
        for _ in range(2):  # the second night finds the same
            assert list(nightly.run(client, orders, shop.book)) == [
                "A-cleo: refused: coupon_redeemed", "A-dora: Scrip has not redeemed MAIL-1",
            ]  # fmt: skip
    assert shop.count() == {"available": 1, "locked": 0, "redeemed": 1}


def test_codes_for_an_e_mail_campaign(shop: Shop, tmp_path: Path) -> None:
    """While the worker is dead a list of users is assigned; each gets one code, also if all is run again."""
    shop.kill("worker")
    with shop.connect() as client:
        codes = email_codes.assign_all(client, shop.book, ["ann", "bob"], "november")
        assert email_codes.assign_all(client, shop.book, ["ann", "bob"], "november") == codes
        shop.service.manage.post(f"/v1/books/{shop.book}/codes", json={"codes": ["MAIL-3"]})
        assert email_codes.assign_now(client, shop.book, "cleo", "november") == "MAIL-3"
        assert email_codes.assign_now(client, shop.book, "cleo", "november") == "MAIL-3"
    email_codes.write_files(tmp_path, codes)
    assert sorted(codes) == ["ann", "bob"]
    assert (tmp_path / "braze.csv").read_text().split() == list(codes.values())
    assert (tmp_path / "klaviyo.csv").read_text().splitlines() == ["Coupon Code", *codes.values()]
    with (tmp_path / "mailing.csv").open() as file:
        assert {row["userId"]: row["code"] for row in csv.DictReader(file)} == codes


def test_a_receiver_of_webhooks(shop: Shop, tmp_path: Path) -> None:
    """The worker is killed after a redemption: its event is stored once, also if sent again. A forgery is refused."""
    inbox = webhook_receiver.Inbox(str(tmp_path / "inbox.sqlite"))
    operate = shop.service.operate
    server = webhook_receiver.make_server(("127.0.0.1", 0), "", inbox)
    address = f"http://127.0.0.1:{server.server_address[1]}/"
    made = ok(operate.post("/v1/webhooks", json={"url": address, "events": ["coupon.redeemed"]}), 201)
    server.server_close()
    server = webhook_receiver.make_server(("127.0.0.1", server.server_address[1]), made["secret"], inbox)
    with _serving(server):
        assert operate.post(address, content=b"{}").status_code == 400
        ok(shop.service.checkout.post("/v1/coupons/redeem/MAIL-1", json={"userId": "ann", "orderValue": 5}), 201)
        shop.kill("worker")
        events: list[tuple[str, Any]] = []

        def work_off() -> list[tuple[str, Any]]:
            inbox.work_off(lambda kind, body: events.append((kind, json.loads(body)["data"]["code"])))
            return events

        assert until(work_off) == [("coupon.redeemed", "MAIL-1")]
        deliveries = f"/v1/webhooks/{made['webhookId']}/deliveries"
        (delivery,) = until(lambda: [one for one in _items(operate, deliveries) if one["status"] == "delivered"])
        ok(operate.post(f"{deliveries}/{delivery['deliveryId']}/redeliver", json={}), 202)
        until(lambda: _items(operate, deliveries)[0]["lastAttemptAt"] > delivery["lastAttemptAt"])
        assert len(work_off()) == 1


def _items(client: Any, path: str) -> list[dict[str, Any]]:
    return ok(client.get(path))["items"]
