"""Processes, servers, connections, clocks and power: one round of each fault.

`make lab PART=faults` goes through all of them, often, and prints a table."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.harness.plugin import leave_out
from tests.lab.faults.deployment import Deployment, own_deployment
from tests.lab.faults.rounds import run_round
from tests.lab.faults.scenarios import SCENARIOS

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployment() -> AsyncIterator[Deployment]:
    """Redis, Postgres and the service on them; each round leaves it whole."""
    async with own_deployment(replicated=False) as deployment:
        yield deployment


@pytest.mark.parametrize(
    "fault",
    [
        "SIGKILL of Redis",
        "SIGKILL of Redis and the worker at once",
        "SIGKILL of the worker",
        "SIGKILL of Postgres",
        "SIGSTOP of each process",
        "the worker asleep until another has its lease",
        "the lease ended while its holder works",
        "SCRIPT FLUSH",
        "Redis's power lost, appendfsync always",
        "Postgres's power lost",
        "Postgres's replies lost",
        "the processes' clocks stepped",
        "maxmemory",
        "events that can't be recorded",
        # Each round compares all that the deployment holds by then, so those with thousands of requests come last.
        "SIGKILL of the APIs",
        "Redis's replies lost",
        "SIGKILL of Redis within calls of many requests",
    ],
)
async def test_what_was_answered_stands_once(deployment: Deployment, fault: str) -> None:
    """Every answer is recorded, once, and nothing else; an order explains each coupon's; Redis equals Postgres."""
    scenario = SCENARIOS[fault]
    if reason := scenario.impossible():
        leave_out(reason)
    result = await run_round(deployment, scenario, 1)
    assert result.verdict.wrong == []
    assert result.verdict.kept > 60
    assert result.injections
    if fault == "SIGKILL of Redis":
        assert result.unanswered.keys() <= {"cut", "outcome_unknown", "unavailable", "recovering"}
    if fault == "SIGKILL of Redis within calls of many requests":
        assert result.unanswered["outcome_unknown"] > 10
