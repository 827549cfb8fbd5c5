"""What an operator of the service sets of a workspace holds for all its keys, sessions and tokens."""

import json
from typing import Any

import pytest

from tests.harness.commands import scrip, succeeded
from tests.harness.service_fixture import Service, new_id, ok, refused
from tests.harness.waiting import until


@pytest.fixture
def own(service: Service) -> Service:
    return service.make_workspace(new_id("own"), "live")


def run(own: Service, *words: str) -> str:
    return succeeded(scrip("workspaces", *words, **own.urls)).output


def listed(own: Service) -> dict[str, Any]:
    return next(row for row in json.loads(run(own, "list", "--json")) if row["name"] == own.workspace)


def test_a_suspended_workspace(own: Service) -> None:
    """All requests of its keys are refused, the hot path's and others, until it is resumed; nothing is lost."""
    code = own.coupon()
    run(own, "suspend", own.workspace)
    until(lambda: own.checkout.post(f"/v1/coupons/lock/{code}", json={"userId": "u"}).status_code == 403)
    for client, method, path in (
        (own.checkout, "POST", f"/v1/coupons/redeem/{code}"),
        (own.manage, "GET", "/v1/books"),
        (own.operate, "GET", "/v1/workspace"),
        (own.public, "POST", "/v1/coupons/validate"),
    ):
        refused(client.request(method, path, json={"userId": "u", "code": code}), 403, "workspace_suspended")
    assert listed(own)["status"] == "suspended"
    run(own, "resume", own.workspace)
    until(lambda: own.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "u"}).status_code == 201)
    assert listed(own)["status"] == "active"


def test_an_operator_limits_keys(own: Service) -> None:
    """A limit of the operator holds for a key without one; the tenant sees it, may set a lower one, and no higher."""
    code = own.coupon()
    run(own, "limit", own.workspace, "--requests-per-minute", "5")
    until(lambda: own.checkout.get(f"/v1/coupons/{code}").status_code == 429)
    assert ok(own.operate.get("/v1/workspace"))["operatorLimits"]["requestsPerMinute"] == 5
    more, less = {"requestsPerMinute": 6}, {"requestsPerMinute": 4}
    above = own.operate.patch("/v1/workspace", json={"limits": {"keys": more}})
    refused(above, 422, "invalid", "limits.keys.requestsPerMinute")
    ok(own.operate.patch("/v1/workspace", json={"limits": {"keys": less}}))
    key = {"name": "k", "scopes": ["checkout"]}
    refused(own.operate.post("/v1/keys", json=key | {"limits": more}), 422, "invalid", "limits.requestsPerMinute")
    made = ok(own.operate.post("/v1/keys", json=key | {"limits": less}), 201)["keyId"]
    path = f"/v1/keys/{made}"
    refused(own.operate.patch(path, json={"limits": more}), 422, "invalid", "limits.requestsPerMinute")
    assert "live locks: no limit" in run(own, "limit", own.workspace)
    run(own, "limit", own.workspace, "--off")
    ok(own.operate.patch(path, json={"limits": more}))
