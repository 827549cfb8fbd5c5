"""Buyers in the partitions beside the load's: a fault that is not theirs must not refuse them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count, cycle

import httpx

from loadtests.harness.running import HOME, PARTITIONS
from tests.faults.nodes import until
from tests.faults.stage import Stage
from tests.service_fixture import make_workspace, new_code

PAUSE_S = 0.01
"""Between requests of all of them together."""
_RECORDED = "SELECT count(*) FROM redemptions JOIN workspaces USING (workspace) WHERE name = $1"


class _Shop:
    """A workspace with one code for any number of users."""

    def __init__(self, stage: Stage, partition: int) -> None:
        self._stage, self._partition, self._code = stage, partition, new_code()
        self._name = f"beside-{self._code}"
        headers = {"Authorization": f"Bearer {self._name}_admin"}
        # Without `verify=False` each client reads all certificates, and the proxies of this process stand still.
        self._clients = [
            httpx.AsyncClient(base_url=url, headers=headers, timeout=10, verify=False) for url in stage.urls
        ]
        self.sold = 0
        self.refused: list[str] = []

    async def open(self) -> None:
        async with self._stage.pool.acquire() as connection:
            await make_workspace(connection, self._name, "live", self._partition)
        for client in self._clients:
            await until(lambda client=client: self._is_known(client), "a workspace")
        client = self._clients[0]
        book = {"name": "Sale", "maxRedemptionsPerCode": None}
        book_id = (await client.post("/v1/books", json=book)).raise_for_status().json()["bookId"]
        (await client.post(f"/v1/books/{book_id}/codes", json={"codes": [self._code]})).raise_for_status()

    async def _is_known(self, client: httpx.AsyncClient) -> bool:
        return (await client.get("/v1/users/nobody")).is_success

    async def sell(self, pause_s: float) -> None:
        """Sell one redemption after the other, until cancelled."""
        for number, client in zip(count(), cycle(self._clients), strict=False):
            answer = await client.post(f"/v1/coupons/redeem/{self._code}", json={"userId": f"user-{number}"})
            self.sold += answer.is_success
            if not answer.is_success:
                self.refused.append(f"partition {self._partition}: {answer.status_code} {answer.text[:200]}")
            await asyncio.sleep(pause_s)

    async def is_recorded(self) -> bool:
        """Whether Postgres has what was sold, and at most the one request more whose response was not awaited."""
        return 0 <= await self._stage.pool.fetchval(_RECORDED, self._name) - self.sold <= 1

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()


@asynccontextmanager
async def selling_beside(stage: Stage, wrong: list[str]) -> AsyncIterator[None]:
    """Sell in all other partitions inside the block; add to `wrong` what was refused there. What was sold must be
    recorded, once."""
    shops = [_Shop(stage, partition) for partition in range(PARTITIONS) if partition != HOME]
    try:
        await asyncio.gather(*(shop.open() for shop in shops))
        async with asyncio.TaskGroup() as group:
            selling = [group.create_task(shop.sell(PAUSE_S * len(shops))) for shop in shops]
            yield
            for task in selling:
                task.cancel()
        for shop in shops:
            await until(shop.is_recorded, "the record of another partition")
            wrong += shop.refused[:5]
    finally:
        for shop in shops:
            await shop.close()
