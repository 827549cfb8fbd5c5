"""Redis lost in ways that leave something behind, and a worker that dies while it mends that: one round of each.

`make lab PART=faults` goes through all of them, often, and prints how long each takes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.harness.plugin import require
from tests.lab.faults.deployment import Deployment, own_deployment
from tests.lab.faults.nodes import wait_until
from tests.lab.faults.rounds import run_round
from tests.lab.faults.scenarios import SCENARIOS

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployment() -> AsyncIterator[Deployment]:
    """A primary with a replica, and the service on them; each round leaves it whole."""
    async with own_deployment() as deployment:
        yield deployment


@pytest.mark.parametrize(
    ("fault", "seed"),
    [
        ("promotion with a lost tail", 2),
        ("A→B→A, each on its own, with requests", 1),
        ("A demoted for a moment, clients stay", 2),
        ("an old dump is loaded", 2),
        ("the anchor lost", 1),
        ("FLUSHALL", 1),
        ("SIGKILL of the recovering worker", 1),
        ("SIGKILL of Redis while it is rebuilt", 1),
    ],
)
async def test_nothing_recorded_is_lost_and_nothing_sold_twice(deployment: Deployment, fault: str, seed: int) -> None:
    """Whatever happens, the service comes back; then every answer is recorded as it was, or lost as a whole where it
    promised no more; no limit is passed, no code missing, and Redis holds what Postgres says."""
    result = await run_round(deployment, SCENARIOS[fault], seed)
    assert result.verdict.wrong == []
    assert result.verdict.kept > 0  # how many answers a fault leaves is luck


async def test_half_a_transaction_is_run_by_no_later_start() -> None:
    """Redis 7.0 cuts an AOF that ends amid a transaction after its first half, and runs that half at the next start but
    one: a file that was written again holds none."""
    async with own_deployment(Path(require("redis-server")), "everysec") as deployment:
        result = await run_round(deployment, SCENARIOS["SIGKILL of Redis within a transaction, twice"], 2)
    assert result.verdict.wrong == []


async def _answers(status: int, ask: Callable[..., Awaitable[httpx.Response]], url: str, **more: Any) -> bool:
    return (await ask(url, **more)).status_code == status


async def test_an_api_that_was_left_with_an_old_primary_decides_nothing(deployment: Deployment) -> None:
    """It is stopped while the replica takes over and a new epoch is opened there; then it goes on, with requests
    waiting and its connection to the old primary whole. No client gets a decision of the old one, then or later."""
    await deployment.heal()
    await deployment.until_ready()
    async with deployment.client() as client:
        left, other = deployment.urls[:2]
        codes = [f"LEFT-{number}" for number in range(40)]
        await deployment.add_codes(*codes)
        for url in (left, other):
            await wait_until(partial(_answers, 200, client.get, f"{url}/v1/coupons/{codes[0]}"), "the first code")
        epoch = (await deployment.row()).epoch
        async with deployment.apis[0].asleep():
            asked = [client.post(f"{left}/v1/coupons/redeem/{code}", json={"userId": "ann"}) for code in codes]
            waiting = asyncio.gather(*asked)
            await deployment.replica.lead()
            deployment.switch(side=False)
            await deployment.until_reopened(epoch)
            sold = partial(_answers, 201, client.post, f"{other}/v1/coupons/redeem/{codes[0]}", json={"userId": "bob"})
            await wait_until(sold, "the new primary")
        refusals = [answer.json().get("code", answer.status_code) for answer in await waiting]
        assert set(refusals) <= {"recovering", "outcome_unknown"}
        late = await client.post(f"{left}/v1/coupons/redeem/{codes[1]}", json={"userId": "ann"})
        assert late.status_code == 503
        deployment.side.point(deployment.primary.port)
        deployment.side.cut()
    await deployment.heal()
    await deployment.until_ready()
