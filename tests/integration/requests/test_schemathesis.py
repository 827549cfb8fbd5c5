"""Requests that schemathesis makes from the OpenAPI document are answered as it says.

All checks, the same few thousand cases each time; `make fuzz` has tens of thousands of new ones.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.running import Run
from tests.harness.service_fixture import shared_service
from tests.schemathesis.run import FuzzResult, fuzz


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """A service of its own: made-up requests change settings too."""
    with shared_service() as service:
        yield service.run


def check_report(run: Run, result: FuzzResult, least_cases: int) -> None:
    assert result.exit_code == 0
    assert result.tested == result.operations
    assert result.cases >= least_cases
    assert run.get("/v1/keys", "demo_admin")  # with a revoked key all requests would be refused


def test_every_bound_of_the_document(run: Run, tmp_path: Path) -> None:
    """A request past a bound, of another type or method, or without a field is refused as documented."""
    result = fuzz(run.url, 1, 1, tmp_path / "report.json", phases=["coverage"], mode="negative")
    check_report(run, result, 2_000)


def test_requests_at_random(run: Run, tmp_path: Path) -> None:
    """The document's examples, random requests and chains of them are answered as documented."""
    result = fuzz(run.url, 1, 4, tmp_path / "report.json", phases=["examples", "fuzzing", "stateful"])
    check_report(run, result, 400)
