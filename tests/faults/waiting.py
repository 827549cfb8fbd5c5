"""Waiting for a service that fails and recovers."""

import time
from collections.abc import Callable
from typing import Any

import httpx

from tests.service_fixture import Service, ok

PATIENCE_S = 120.0


def wait(reached: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """What `reached` says once that is true; while the service can't be reached it isn't."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            if value := reached():
                return value
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def until_recorded(service: Service) -> None:
    """Wait until everything that was answered is recorded."""
    wait(service.run.ready)
    wait(lambda: settled(ok(service.operate.get("/v1/ops/consistency"))))


def settled(consistency: dict[str, Any]) -> bool:
    """Whether nothing is left to record."""
    return (consistency["state"], consistency["lagEvents"]) == ("open", 0)
