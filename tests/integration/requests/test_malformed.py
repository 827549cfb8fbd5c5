"""Malformed requests by the thousand; `make fuzz` sends a million."""

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.api import configuration_writes
from tests.hostile.malformed import Document, send_all
from tests.integration.serving import Served
from tests.service_fixture import Service, ok
from tests.waiting import PATIENCE_S

INPUTS = 3000


@pytest.mark.parametrize("hot", [True, False], ids=["lane", "litestar"])
def test_malformed_requests(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hot: bool) -> None:
    """No malformed request is answered 5xx, or breaks the requests after it."""
    monkeypatch.setattr(configuration_writes, "MAX_AGE_S", PATIENCE_S)  # three seconds are short on a busy machine
    document: Document = service.anonymous.get("/schema/openapi.json").json()
    seed, served = random.randrange(2**31), Served(service, tmp_path, hot=hot)
    try:
        with ThreadPoolExecutor(1) as aside:
            sending = send_all(f"http://127.0.0.1:{served.port}", INPUTS, seed, document)
            statuses, failed = aside.submit(asyncio.run, sending).result()
    finally:
        served.end()
    assert failed == [], f"seed {seed}"
    assert statuses.total() == INPUTS
    assert {200, 400, 415} <= statuses.keys()
    assert ok(service.anonymous.get("/health/live")) == {"status": "live"}
