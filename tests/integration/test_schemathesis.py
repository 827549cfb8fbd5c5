"""What schemathesis makes up from the OpenAPI document, good requests and bad ones, is answered as it says.

All checks, the same some thousand cases each time; `make fuzz` has tens of thousands, new ones.
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.harness.running import Run, data_folder
from loadtests.harness.servers import free_port
from tests.schemathesis.run import Told, fuzz


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """A service of its own: what is made up changes settings too."""
    with data_folder() as folder:
        run = Run(folder / "data", free_port())
        try:
            yield run.until_ready()
        finally:
            run.end(signal.SIGTERM)


def _found_nothing(run: Run, result: Told, least_cases: int) -> None:
    assert result.exit_code == 0
    assert result.tested == result.operations
    assert result.cases >= least_cases
    assert run.get("/v1/keys", "demo_admin")  # or all would have been refused for want of a key


def test_every_bound_of_the_document(run: Run, tmp_path: Path) -> None:
    """Just past each bound, of another type, left out, with another method: refused, in the document's words."""
    result = fuzz(run.url, 1, 1, tmp_path / "report.json", phases=["coverage"], mode="negative")
    _found_nothing(run, result, 2_000)


def test_requests_at_random(run: Run, tmp_path: Path) -> None:
    """The document's examples, good and bad requests at random, and chains of them."""
    result = fuzz(run.url, 1, 4, tmp_path / "report.json", phases=["examples", "fuzzing", "stateful"])
    _found_nothing(run, result, 400)
