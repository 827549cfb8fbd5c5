"""A repeat under its key after what it did has ended: by both ways to a response, behind the record, and after Redis
was lost."""

from typing import Any

import httpx
import pytest

from tests.harness.running import run_aside
from tests.harness.service_fixture import Service, new_code, new_id, ok, refused
from tests.harness.waiting import until
from tests.integration.coupons.test_recalling import forget

WAYS: dict[str, dict[str, str]] = {"fast lane": {}, "litestar": {"Prefer": "durability=recorded, wait=10"}}


class Shopper:
    """Asks for each thing under a key of its own; `again` sends a request once more."""

    def __init__(self, service: Service, headers: dict[str, str]) -> None:
        self.service, self.headers, self.user, self.order = service, headers, new_id(), new_id("order")
        self._asked: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {}

    def ask(self, name: str, path: str, **body: Any) -> Any:
        """The response's body."""
        self._asked[name] = (path, body, {"Idempotency-Key": new_id("key"), **self.headers})
        return ok(self.again(name), 201)

    def again(self, name: str) -> httpx.Response:
        path, body, headers = self._asked[name]
        return self.service.checkout.post(path, json=body, headers=headers)

    def replayed(self, name: str) -> Any:
        response = self.again(name)
        assert response.headers["Idempotency-Replayed"] == "true"
        return ok(response, 201)

    def decided_anew(self, name: str) -> Any:
        response = self.again(name)
        assert "Idempotency-Replayed" not in response.headers
        return ok(response, 201)

    def rolled_back(self, name: str) -> tuple[str | None, str]:
        """What the refusal says was rolled back, and when."""
        problem = refused(self.again(name), 409, "already_rolled_back")
        return problem["redemptionId"], problem["rolledBackAt"]


def _buy(shopper: Shopper, code: str, *gifts: str) -> tuple[dict[str, Any], str]:
    """A redemption and a gift of one order, each under its key; and the gifts' book."""
    service = shopper.service
    service.book(code)
    book = service.book(*gifts)
    who = {"userId": shopper.user, "orderId": shopper.order}
    redemption = shopper.ask("redeem", f"/v1/coupons/redeem/{code}", **who)
    shopper.ask("gift", f"/v1/users/{shopper.user}/gifts", bookId=book, orderId=shopper.order)
    return redemption, book


@pytest.mark.parametrize("way", WAYS)
def test_what_was_rolled_back_is_not_sold(service: Service, way: str) -> None:
    """Redemption, gift and checkout of an order that was rolled back are refused with the time of the rollback, at once
    and after the outbox was trimmed; a new key sells again, and the rollback's own key answers as before."""
    shopper, code = Shopper(service, WAYS[way]), new_code()
    redemption, _ = _buy(shopper, code, new_code(), new_code())
    back, body = f"/v1/orders/{shopper.order}/rollback", {"reason": "cancelled"}
    key = {"Idempotency-Key": new_id("key")}
    (item,) = ok(service.manage.post(back, json=body, headers=key))["items"]
    for _ in range(2):
        assert shopper.rolled_back("redeem") == (redemption["redemptionId"], item["rolledBackAt"])
        assert shopper.rolled_back("gift") == (None, item["rolledBackAt"])
        forget(service)
    who = {"userId": shopper.user, "orderId": shopper.order}
    bought = shopper.ask("bought", "/v1/checkout", **who, orderValue="12.50", code=code)
    assert bought["redemption"]["redemptionId"] != redemption["redemptionId"]
    assert shopper.rolled_back("redeem")[0] == redemption["redemptionId"]
    again = service.manage.post(back, json=body, headers=key)
    assert ok(again)["items"][0]["redemptionId"] == redemption["redemptionId"]
    assert again.headers["Idempotency-Replayed"] == "true"
    one = f"/v1/redemptions/{bought['redemption']['redemptionId']}/rollback"
    rolled = ok(service.manage.post(one, json={}))
    assert shopper.rolled_back("bought") == (rolled["redemptionId"], rolled["rolledBackAt"])


@pytest.mark.parametrize("way", WAYS)
def test_what_ended_is_decided_anew(service: Service, way: str) -> None:
    """The key of a lock that was released, of an assignment and of a gift that were taken back does what it asks for
    again, and answers with that; within the hour it is recorded, and no difference remains."""
    shopper, codes = Shopper(service, WAYS[way]), [new_code() for _ in range(4)]
    book = service.book(*codes)
    who = {"userId": shopper.user, "orderId": shopper.order}
    held = shopper.ask("lock", f"/v1/coupons/lock/{codes[0]}", **who)
    assert shopper.replayed("lock") == held
    service.checkout.post(f"/v1/coupons/unlock/{codes[0]}", json={"lockToken": held["lockToken"]}).raise_for_status()
    other = shopper.decided_anew("lock")
    assert other["lockToken"] != held["lockToken"]
    assert shopper.replayed("lock") == other
    shopper.ask("assign", f"/v1/coupons/assign/{codes[1]}", userId=shopper.user)
    given = shopper.ask("gift", f"/v1/users/{shopper.user}/gifts", bookId=book, orderId=shopper.order)
    for taken in (codes[1], given["code"]):
        ok(service.manage.post(f"/v1/coupons/unassign/{taken}", json={}))
    assert shopper.decided_anew("assign")["code"] == codes[1]
    other = shopper.decided_anew("gift")
    assert shopper.replayed("gift") | {"durability": None} == other | {"durability": None}
    service.recorded()
    (row,) = run_aside(service.fetch("SELECT count(*) AS quarantined FROM quarantine WHERE resolution IS NULL"))
    assert row["quarantined"] == 0


def test_behind_the_record_it_is_unavailable(patient: Service) -> None:
    """While a rollback isn't recorded, a repeat is 503 with Retry-After and spends nothing."""
    shopper = Shopper(patient, {})
    redemption, _ = _buy(shopper, new_code(), new_code())
    with patient.run.asleep("worker"):
        ok(patient.manage.post(f"/v1/orders/{shopper.order}/rollback", json={}))
        for name in ("redeem", "gift"):
            assert "Retry-After" in shopper.again(name).headers
            refused(shopper.again(name), 503, "unavailable")
    until(lambda: shopper.again("redeem").status_code == 409)
    assert shopper.rolled_back("redeem")[0] == redemption["redemptionId"]


def test_after_a_loss_of_redis(patient: Service) -> None:
    """A rebuilt Redis tells the same of redemptions, assignments and gifts; it has no locks, so that a lock's key is
    decided again."""
    stood, undone = Shopper(patient, {}), Shopper(patient, {})
    redemption, _ = _buy(stood, new_code(), new_code())
    code = patient.coupon()
    lock = stood.ask("lock", f"/v1/coupons/lock/{code}", userId=stood.user)
    before, book = _buy(undone, new_code(), new_code(), new_code())
    (item,) = ok(patient.manage.post(f"/v1/orders/{undone.order}/rollback", json={}))["items"]
    taken = undone.ask("unassigned", f"/v1/users/{undone.user}/gifts", bookId=book, orderId=new_id("order"))
    ok(patient.manage.post(f"/v1/coupons/unassign/{taken['code']}", json={}))
    patient.recorded()
    with patient.redis() as client:
        client.flushall()
    until(lambda: not patient.run.ready())
    until(lambda: patient.run.ready() and patient.checkout.get("/v1/users/nobody").is_success)
    assert stood.replayed("redeem")["redemptionId"] == redemption["redemptionId"]
    assert stood.replayed("gift")["userId"] == stood.user
    assert undone.rolled_back("redeem") == (before["redemptionId"], item["rolledBackAt"])
    assert undone.rolled_back("gift") == (None, item["rolledBackAt"])
    assert undone.decided_anew("unassigned")["userId"] == undone.user
    assert stood.decided_anew("lock")["lockToken"] != lock["lockToken"]
