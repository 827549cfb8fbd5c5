"""Waiting for a service that fails and recovers."""

from functools import partial
from typing import Any

import httpx

from tests.service_fixture import Service, ok
from tests.waiting import until

wait = partial(until, away=(httpx.TransportError,))
"""While the service can't be reached, what is waited for is not there."""


def until_recorded(service: Service) -> None:
    """Wait until everything that was answered is recorded."""
    wait(service.run.ready)
    wait(lambda: settled(ok(service.operate.get("/v1/ops/consistency"))))


def settled(consistency: dict[str, Any]) -> bool:
    """Whether nothing is left to record."""
    return (consistency["state"], consistency["lagEvents"]) == ("open", 0)
