"""`scrip status`: an operator watches the service."""

from typing import Any

import msgspec

from tests.harness.commands import scrip, succeeded
from tests.harness.service_fixture import Service, new_id, ok
from tests.harness.waiting import until


def _look(service: Service) -> dict[str, Any]:
    return msgspec.json.decode(succeeded(scrip("status", "--json", **service.urls)).output)


def test_the_screen(service: Service) -> None:
    """It has each partition with its gate, worker and memory, and the busiest workspaces' rates within half a minute.
    Without a terminal it is printed once; without Redis, its columns are unknown."""
    own = service.make_workspace(new_id("busy"), "live")
    code = own.coupon()

    def look() -> dict[str, Any] | None:
        """A look with timed requests: refusals from before the workspace was known are seen, too, and have no times."""
        for _ in range(50):
            ok(own.checkout.get(f"/v1/coupons/{code}"))
        seen = _look(service)
        return seen if any(row["name"] == own.workspace and row["p99Ms"] for row in seen["workspaces"]) else None

    seen = until(look)
    assert {(row["state"], row["gate"]) for row in seen["partitions"]} == {("open", "open")}
    assert all(row["owner"] and row["redisUsedMib"] > 0 for row in seen["partitions"])
    every, *_ = seen["workspaces"]
    assert every["name"] == "all"
    assert every["perSecond"] > 0
    assert every["p99Ms"] > 0
    text = succeeded(scrip("status", **service.urls)).output
    assert "\x1b" not in text
    assert own.workspace in text
    away = succeeded(scrip("status", **service.urls | {"REDIS_URL": "redis://127.0.0.1:1/0"})).output
    assert away.splitlines()[3].split()[:3] == ["0", "open", "?"]
