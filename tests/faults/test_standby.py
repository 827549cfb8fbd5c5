"""A standby of Postgres that is behind takes the primary's place."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx

from loadtests.harness.running import data_folder
from loadtests.harness.servers import VALKEY
from loadtests.harness.trees import Change, changed
from tests.faults.nodes import until
from tests.faults.stage import ROOT, Stage

CODES = 3000
_FEW = (
    Change("service/worker/write_behind.py", "KEEP_EVENTS = 100_000", "KEEP_EVENTS = 20"),
    Change("service/worker/write_behind.py", "KEEP_S = 120", "KEEP_S = 1"),
)
"""So that the outbox would soon drop what is recorded."""


class _Buyers:
    """Redeem codes of one use, a few at a time and each code once, until `ended`."""

    def __init__(self, stage: Stage, client: httpx.AsyncClient, codes: list[str]) -> None:
        self._urls, self._client, self._codes = stage.urls, client, iter(codes)
        self.redeemed: list[str] = []
        self.refused: list[str] = []
        self.ended = False

    async def buy(self) -> None:
        while not self.ended and (code := next(self._codes, None)):
            url = f"{self._urls[len(self.redeemed) % len(self._urls)]}/v1/coupons/redeem/{code}"
            response = await self._client.post(url, json={"userId": "buyer"})
            if response.status_code == 201:
                self.redeemed.append(response.json()["redemptionId"])
            else:
                self.refused.append(response.text)
            await asyncio.sleep(0.02)

    async def until_more(self, many: int) -> None:
        goal = len(self.redeemed) + many
        await _until(lambda: len(self.redeemed) >= goal)


async def _until(reached: Callable[[], bool]) -> None:
    async def check() -> bool:
        return reached()

    await until(check, "the buyers")


async def test_a_promoted_standby_lacks_nothing_that_was_answered() -> None:
    """A primary is killed while its asynchronous standby is hundreds of redemptions behind. Redis still has them: each
    is recorded once in the promoted standby, no request fails, and Redis and Postgres are equal."""
    with data_folder() as folder:
        tree = changed(_FEW, ROOT, folder / "tree")
        async with Stage(VALKEY, folder / "stage", "always", replicated=False, tree=tree, standbys=1) as stage:
            await _promote_under_load(stage)


async def _promote_under_load(stage: Stage) -> None:
    async with httpx.AsyncClient(headers=stage.headers, timeout=30) as client:
        codes = await _make_codes(client, stage.urls[0])
        await stage.database.add_standby()
        epoch, buyers = (await stage.row()).epoch, _Buyers(stage, client, codes)
        buying = [asyncio.create_task(buyers.buy()) for _ in range(4)]
        await buyers.until_more(100)
        stage.database.link.hold()
        await buyers.until_more(250)
        lost = await _recorded_at_primary(stage, 300)
        await asyncio.sleep(1.5)  # the age from which entries are dropped
        await buyers.until_more(20)
        await stage.database.kill()
        await buyers.until_more(30)
        await stage.database.promote()
        had = [str(row[0]) for row in await stage.pool.fetch("SELECT redemption_id FROM redemptions")]
        assert len(lost - set(had)) > 100, "the standby was not behind"
        await buyers.until_more(50)
        buyers.ended = True
        await asyncio.gather(*buying)
        assert buyers.refused == []
        await stage.until_ready()
    recorded = [str(row[0]) for row in await stage.pool.fetch("SELECT redemption_id FROM redemptions")]
    assert sorted(recorded) == sorted(buyers.redeemed)
    assert await stage.pool.fetchval("SELECT count(*) FROM quarantine") == 0
    assert (await stage.row()).epoch == epoch, "Redis was opened again"


async def _make_codes(client: httpx.AsyncClient, url: str) -> list[str]:
    book = (await client.post(f"{url}/v1/books", json={"name": "Sale"})).json()["bookId"]
    codes = [f"STANDBY-{number}" for number in range(CODES)]
    added: Any = (await client.post(f"{url}/v1/books/{book}/codes", json={"codes": codes})).json()
    assert added["added"] == CODES
    return codes


async def _recorded_at_primary(stage: Stage, least: int) -> set[str]:
    async def recorded() -> set[str]:
        rows = await stage.pool.fetch("SELECT redemption_id FROM redemptions")
        return {str(row[0]) for row in rows} if len(rows) >= least else set()

    return await until(recorded, "the record")
