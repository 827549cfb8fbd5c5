"""Cursors at the bounds of Postgres's integers, at every list of the service."""

import base64
import json

import pytest

from service.formats import page_cursors
from tests.service_fixture import Service, new_code, new_id, ok

_UNDOCUMENTED = {"/console/data/jobs", "/console/data/redemptions"}


@pytest.fixture(scope="module")
def service(service: Service) -> Service:
    """A workspace of this file's own, which keeps its webhook."""
    return service.make_workspace(new_id("cursors"), "live")


def _list_paths(service: Service) -> set[str]:
    """The paths of all lists that take a cursor; the objects that they name exist."""
    code, user = new_code(), new_id()
    ids = {"bookId": service.book(code), "code": code, "userId": user}
    ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": user}), 201)
    hook = {"url": "https://hooks.example/", "events": ["reconcile.drift"]}
    ids["webhookId"] = ok(service.operate.post("/v1/webhooks", json=hook), 201)["webhookId"]
    documented = {
        path.format_map(ids)
        for path, operations in service.anonymous.get("/schema/openapi.json").json()["paths"].items()
        if any(one["name"] == "cursor" for one in operations.get("get", {}).get("parameters", ()))
    }
    return documented | _UNDOCUMENTED


def test_extreme_places(service: Service) -> None:
    """At every list, a cursor with the largest integer of a Postgres type returns a page or 400 `malformed`."""
    paths = _list_paths(service)
    assert len(paths) >= len(page_cursors.by_name)
    failures: list[str] = []
    for name in page_cursors.by_name:
        for parts in ([number, *more] for number in (2**31 - 1, 2**63 - 1) for more in ([], [number], ["ABCD"])):
            cursor = base64.urlsafe_b64encode(json.dumps([name, *parts]).encode()).decode().rstrip("=")
            for path in paths:
                answer = service.admin.get(path, params={"cursor": cursor, "limit": 1})
                if answer.status_code != 200 and (answer.status_code, answer.json().get("code")) != (400, "malformed"):
                    failures.append(f"{path} {name} {parts}: {answer.status_code} {answer.text[:200]}")
    assert failures == []
