"""Redis lost in ways that leave something behind, and a worker that dies while it mends that: one round of each.

`make drill` goes through all of them, often, and prints how long each takes."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults.drill import a_postgres, run_round
from tests.faults.scenarios import SCENARIOS
from tests.faults.stage import Stage, staged
from tests.servers import VALKEY

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage() -> AsyncIterator[Stage]:
    """A primary with a replica, and the service on them; each round leaves it whole."""
    with tempfile.TemporaryDirectory(prefix="scrip-tests-", ignore_cleanup_errors=True) as folder:
        async with (
            a_postgres(Path(folder)) as url,
            staged(VALKEY, Path(folder) / "stage", "always", url, "drill") as stage,
        ):
            yield stage


@pytest.mark.parametrize(
    ("fault", "seed"),
    [
        ("promotion with a lost tail", 2),
        ("A→B→A, each on its own, with requests", 1),
        ("A demoted for a moment, clients stay", 2),
        ("an old dump is loaded", 2),
        ("SIGKILL of the recovering worker", 1),
    ],
)
async def test_nothing_recorded_is_lost_and_nothing_sold_twice(stage: Stage, fault: str, seed: int) -> None:
    """Whatever happens, the service comes back; then every answer is recorded as it was, or lost as a whole where it
    promised no more; no limit is passed, no code missing, and Redis holds what Postgres says."""
    told = await run_round(stage, SCENARIOS[fault], seed)
    assert told.verdict.wrong == []
    assert told.verdict.kept > 60
