"""No secret is written outside its store."""

from collections.abc import Callable

import pytest

from tests.harness.canaries import MARK, Canaries
from tests.harness.service_fixture import Service


def test_no_canary_is_found(own_service: Callable[[], Service], monkeypatch: pytest.MonkeyPatch) -> None:
    """No log, metric or error has codes, keys or tokens that went through every path, crashes included."""
    monkeypatch.setenv("SCRIP_LOG_LEVEL", "debug")
    canaries = Canaries(own_service(), 300)
    canaries.send()
    assert list(canaries.find_canaries()) == []
    assert canaries.bodies
    log = canaries.service.run.output.read_text()
    assert all(event in log for event in ("script_failed", "event_quarantined", "rebuilding"))
    assert MARK not in log
