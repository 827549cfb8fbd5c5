"""Refused requests are found by their id, by the API, the console and `scrip requests`."""

import json
from typing import Any

import httpx
import pytest

from tests.harness.commands import scrip
from tests.harness.service_fixture import Service, new_id, ok
from tests.harness.waiting import PATIENCE_S, until


def _find(client: httpx.Client, request_id: str) -> list[dict[str, Any]]:
    return ok(client.get("/v1/ops/requests", params={"requestId": request_id}))["items"]


@pytest.mark.parametrize("query", ["", "?a=1"], ids=["fast lane", "Litestar"])
def test_a_refusal_is_found(service: Service, query: str) -> None:
    """A refusal is found by the client's id, by operators of its workspace alone, and has no whole code."""
    request_id = f"{new_id()}/%?#"
    response = service.checkout.post(
        f"/v1/coupons/redeem/NONE-7F3K{query}", json={"userId": "ann"}, headers={"X-Request-Id": request_id}
    )
    outcome = response.json()["code"]
    (item,) = until(lambda: _find(service.operate, request_id))
    assert {name: item[name] for name in ("route", "status", "outcome", "subject")} == {
        "route": "POST /v1/coupons/redeem/{code}",
        "status": response.status_code,
        "outcome": outcome,
        "subject": "…3K",
    }
    other = service.make_workspace(new_id(), "test")
    assert _find(other.operate, request_id) == []
    shown = scrip("requests", request_id, "--json", **service.urls)
    assert json.loads(shown.output)["items"] == [item | {"workspace": service.workspace}]
    assert "NONE-7F3K" not in shown.output


@pytest.mark.parametrize("query", ["", "?a=1"], ids=["fast lane", "Litestar"])
def test_a_refusal_for_a_missing_scope_is_found(service: Service, query: str) -> None:
    """A request whose key lacks the scope is found by operators of the key's workspace."""
    request_id = new_id()
    refused = service.operate.post(
        f"/v1/coupons/redeem/NONE-7F3K{query}", json={"userId": "ann"}, headers={"X-Request-Id": request_id}
    )
    assert refused.status_code == 403
    (item,) = until(lambda: _find(service.operate, request_id))
    assert (item["outcome"], item["subject"]) == ("forbidden", "…3K")


def test_a_problem_leads_to_its_request(service: Service) -> None:
    """A problem's `instance` leads to the request that finds it, and a browser to the console's search."""
    instance = service.checkout.get("/v1/coupons/NONE-7F3K", headers={"X-Request-Id": new_id()}).json()["instance"]
    found = until(lambda: ok(service.operate.get(instance, follow_redirects=True))["items"])
    assert [one["outcome"] for one in found] == ["coupon_not_found"]
    page = service.anonymous.get(instance, headers={"Accept": "text/html"})
    assert page.headers["Location"] == f"/console#/search/{instance.rpartition('/')[2]}"


@pytest.mark.parametrize(
    ("path", "row"),
    [
        ("/v1/coupons/assign", ["POST", "/v1/coupons/assign", "401", "unauthenticated", "-"]),
        ("/console/receiver/418", ["POST", "/console/receiver/{status}", "404", "not_found", "…"]),
    ],
)
def test_a_request_without_credentials_is_found(service: Service, path: str, row: list[str]) -> None:
    """The command also finds requests that no workspace has; it says so if nothing was refused."""
    request_id = new_id()

    def find_again() -> str:
        """Refuse a request, and find it. Others of the same second may leave no room for it."""
        refused = httpx.post(
            f"{service.run.facts['url']}{path}", json={}, headers={"X-Request-Id": request_id}, timeout=PATIENCE_S
        )
        assert str(refused.status_code) == row[2]
        lines = scrip("requests", request_id, **service.urls).output.splitlines()
        return next((line for line in lines if " POST " in line), "")

    _, workspace, *shown, _took, subject = until(find_again).split()
    assert (workspace, [*shown, subject]) == ("-", row)
    assert "No request with this id was refused" in scrip("requests", new_id(), **service.urls).output


def test_the_console_finds_a_refusal(service: Service) -> None:
    """The console's search finds any request id under which something was refused."""
    request_id = f"mine:{new_id()}"
    service.checkout.post("/v1/coupons/redeem/NONE-7F3K", json={}, headers={"X-Request-Id": request_id})

    def search(client: httpx.Client) -> list[dict[str, Any]]:
        return ok(client.get("/console/data/search", params={"q": request_id}))["matches"]

    until(lambda: [(one["kind"], one["name"]) for one in search(service.admin)] == [("refused", request_id)])
    assert search(service.manage) == []
