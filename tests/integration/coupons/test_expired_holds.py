"""Thousands of locks on a card, or in a budget, that expire at once block other requests for a short time only."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.harness.service_fixture import Service, new_code, new_id, ok
from tests.harness.waiting import until

LOCKS, LIVE = 5_000, 1_100


@pytest.mark.parametrize("of", ["card", "budget"])
def test_expired_holds_are_swept_while_requests_come(service: Service, of: str) -> None:
    """5,000 locks of 1.00 expire at once beside 1,100 that live. A request that needs their part is `unavailable` for
    seconds at most: no request removes them, the worker does."""
    own, code = service.make_workspace(new_id("holds"), "test"), new_code()
    rules: dict[str, Any] = {"discount": {"type": "balance", "value": 10_000}}
    if of == "budget":
        rules = {"discount": {"type": "percentage", "value": 100}}
        rules["budgets"] = [{"amount": 10_000, "per": "book", "period": "lifetime"}]
    own.book(code, maxRedemptionsPerCode=None, maxLockSeconds=7200, **rules)

    def lock(count: int, seconds: int, kind: str) -> None:
        for first in range(0, count, 500):
            holders = [f"{kind}-{n}" for n in range(first, min(count, first + 500))]
            body = {"orderValue": 1, "lockSeconds": seconds}
            each = [{"op": "lock", "code": code, "userId": one, "orderId": one, **body} for one in holders]
            results = ok(own.checkout.post("/v1/batch", json={"operations": each}))["results"]
            assert {result["status"] for result in results} == {201}, results[0]

    lock(LIVE, 7200, "live")
    lock(LOCKS, 600, "due")
    asked = {"userId": "ann", "orderValue": 8_000}
    path = f"/v1/coupons/lock/{code}"
    later = datetime.now(UTC) + timedelta(seconds=1200)
    ok(own.operate.post("/v1/test/clock", json={"now": later.strftime("%Y-%m-%dT%H:%M:%SZ")}))
    assert own.checkout.post(path, json=asked).status_code == 503
    answer = until(
        lambda: (made := own.checkout.post(path, json=asked)).status_code == 201 and made, "what expired locks held", 10
    )
    assert ok(answer, 201)["discountAmount"] == "8000.00"
