"""Servers are replaced by older copies of themselves: nothing that was sold is sold again.

`make lab PART=faults` goes through these faults often."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from tests.harness.running import HOME
from tests.harness.service_fixture import new_code
from tests.harness.waiting import elapse
from tests.lab.faults.deployment import NEVER_STALLS, Deployment, own_deployment
from tests.lab.faults.restore_faults import KEEPS_LITTLE, until_reason
from tests.lab.faults.rounds import run_round
from tests.lab.faults.scenarios import SCENARIOS

pytestmark = pytest.mark.asyncio(loop_scope="module")

_FIGURES = ("partition", "recorded", "blocked", "freed")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployment() -> AsyncIterator[Deployment]:
    async with own_deployment(changes=(*KEEPS_LITTLE, NEVER_STALLS), replicated=False) as deployment:
        yield deployment


class _Shop:
    """A client of the service, and codes that it sells."""

    def __init__(self, deployment: Deployment, client: httpx.AsyncClient) -> None:
        self.deployment, self.client, self.url = deployment, client, deployment.urls[0]

    async def add(self, many: int) -> list[str]:
        codes = [new_code() for _ in range(many)]
        await self.deployment.add_codes(*codes)
        return codes

    async def redeem(self, code: str) -> tuple[int, str]:
        """Redeem with the highest durability; the response's status, and its code of refusal."""
        response = await self.client.post(
            f"{self.url}/v1/coupons/redeem/{code}", json={"userId": "ann"}, headers={"Prefer": "durability=recorded"}
        )
        if response.status_code == 201:
            return 201, response.json()["durability"]
        return response.status_code, response.json().get("code", "")


@pytest_asyncio.fixture(loop_scope="module")
async def shop(deployment: Deployment) -> AsyncIterator[_Shop]:
    async with deployment.client() as client:
        yield _Shop(deployment, client)


async def test_a_restored_postgres_sells_nothing_twice(deployment: Deployment, shop: _Shop) -> None:
    """Codes that were sold as `recorded` after the back-up are not sold again: the partition stays closed and says why.
    With the newer Postgres it opens by itself. If that is gone, an operator carries over what Redis
    has: the sale that is still in the outbox is recorded, and the codes of the others are blocked."""
    before, (*after, unsold) = await shop.add(3), await shop.add(11)
    for code in before:
        assert await shop.redeem(code) == (201, "recorded")
    await deployment.database.back_up()
    for code in after:
        assert await shop.redeem(code) == (201, "recorded")
    await deployment.until_trimmed()
    epoch = (await deployment.row()).epoch

    await deployment.database.restore()
    await until_reason(deployment, "postgres_older")
    for _ in range(3):
        assert {status for status, _ in [await shop.redeem(code) for code in after]} == {503}
        await elapse(0.5, "some more looks of the worker")
    assert "it lacks 10 events or more" in ((await deployment.row()).lacks or "")

    await deployment.database.restore()
    await deployment.until_ready()
    assert (await deployment.row()).epoch == epoch, "Redis was opened again"
    for code in [*before, *after]:
        assert await shop.redeem(code) == (409, "coupon_redeemed")
    assert await deployment.pool.fetchval("SELECT count(*) FROM quarantine") == 0
    await deployment.until_trimmed()

    await deployment.database.restore()
    await until_reason(deployment, "postgres_older")
    (plan,) = json.loads(await deployment.command("recover", "--json"))
    assert {name: plan[name] for name in _FIGURES} == dict(zip(_FIGURES, (HOME, 1, 9, 10), strict=True))
    await deployment.command("recover", "--apply")
    await deployment.until_ready()
    for code in before:
        assert await shop.redeem(code) == (409, "coupon_redeemed")
    *lost, in_outbox = after
    assert await shop.redeem(in_outbox) == (409, "coupon_redeemed")
    assert [await shop.redeem(code) for code in lost] == [(409, "coupon_inactive")] * 9
    assert await shop.redeem(unsold) == (201, "recorded")


@pytest.mark.parametrize(
    ("fault", "seed"),
    [("a standby promoted that lacks more than the outbox", 7), ("Redis and Postgres restored to different times", 2)],
)
async def test_an_older_copy_under_load_sells_nothing_twice(deployment: Deployment, fault: str, seed: int) -> None:
    """While no worker runs, a late standby is promoted: an operator carries over what Redis has, and the codes of all
    other sales are blocked. And both servers are restored, Redis to an earlier time: what is recorded stands."""
    result = await run_round(deployment, SCENARIOS[fault]._replace(codes=500), seed)
    assert result.verdict.wrong == []
    assert result.verdict.kept > 40
