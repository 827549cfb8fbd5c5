"""Buyers in the partitions beside the load's: a fault that is not theirs must not refuse them."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from itertools import count, cycle
from typing import Any

import httpx

from tests.harness.running import HOME, PARTITIONS
from tests.harness.service_fixture import new_code
from tests.harness.waiting import PATIENCE_S
from tests.harness.workspaces import make_workspace
from tests.lab.faults.deployment import Deployment
from tests.lab.faults.nodes import wait_until

PAUSE_S = 0.01
"""Between requests of all of them together."""
_RECORDED = "SELECT count(*) FROM redemptions JOIN workspaces USING (workspace) WHERE name = $1"


class _Shop:
    """A workspace with one code for any number of users."""

    def __init__(self, deployment: Deployment, partition: int, urls: Sequence[str]) -> None:
        self._deployment, self.partition, self._code = deployment, partition, new_code()
        self._name = f"beside-{self._code}"
        headers = {"Authorization": f"Bearer {self._name}_admin"}
        # Without `verify=False` each client reads all certificates, and the proxies of this process stand still.
        self._clients = [
            httpx.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE_S, verify=False) for url in urls
        ]
        self.sold = self.unknown = 0
        self.may_refuse = False
        """Whether its own partition has a fault now."""
        self.may_lack = 0
        """How many of its sales a replica may have lacked."""
        self.refused: list[str] = []

    async def open(self) -> None:
        async with self._deployment.pool.acquire() as connection:
            await make_workspace(connection, self._name, "live", self.partition)
        for client in self._clients:
            await wait_until(lambda client=client: self._is_known(client), "a workspace")
        client = self._clients[0]
        book = {"name": "Sale", "maxRedemptionsPerCode": None}
        made = await wait_until(lambda: self._post(client, "/v1/books", book), "a book")
        await wait_until(
            lambda: self._post(client, f"/v1/books/{made['bookId']}/codes", {"codes": [self._code]}), "a code"
        )

    async def _post(self, client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> Any:
        """None if it is refused: the API may have just started."""
        response = await client.post(path, json=body)
        return response.json() if response.is_success else None

    async def _is_known(self, client: httpx.AsyncClient) -> bool:
        return (await client.get("/v1/users/nobody")).is_success

    async def sell(self, pause_s: float) -> None:
        """Sell one redemption after the other, until cancelled."""
        for number, client in zip(count(), cycle(self._clients), strict=False):
            answer = await client.post(f"/v1/coupons/redeem/{self._code}", json={"userId": f"user-{number}"})
            self.sold += answer.is_success
            self.unknown += "outcome_unknown" in answer.text
            if not answer.is_success and not self.may_refuse:
                self.refused.append(f"partition {self.partition}: {answer.status_code} {answer.text[:200]}")
            await asyncio.sleep(pause_s)

    async def until_sold(self) -> None:
        """It has sold one more."""
        sold = self.sold
        await wait_until(lambda: self.sold > sold, f"a sale in partition {self.partition}")

    async def is_recorded(self) -> bool:
        """Whether Postgres has what was sold; perhaps what has no known outcome, and one request not awaited."""
        recorded = await self._deployment.pool.fetchval(_RECORDED, self._name)
        return self.sold - self.may_lack <= recorded <= self.sold + 1 + self.unknown

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()


class Beside:
    """The shops in the partitions beside the load's."""

    def __init__(self, shops: Sequence[_Shop]) -> None:
        self._shops = shops
        self.closed_s: list[float] = []
        """How long each partition with a fault was closed."""

    @asynccontextmanager
    async def closed(self, partitions: Collection[int], *, may_lack: int = 0) -> AsyncIterator[None]:
        """These may refuse from the block's begin until they sell again after it, and each may lack so many sales."""
        shops = [shop for shop in self._shops if shop.partition in partitions]
        began = time.monotonic()
        for shop in shops:
            shop.may_refuse = True
            shop.may_lack += may_lack
        yield

        async def wait(shop: _Shop) -> None:
            await shop.until_sold()
            self.closed_s.append(time.monotonic() - began)

        await asyncio.gather(*map(wait, shops))
        for shop in shops:
            shop.may_refuse = False


@asynccontextmanager
async def selling_beside(deployment: Deployment, wrong: list[str], urls: Sequence[str] = ()) -> AsyncIterator[Beside]:
    """Sell in all other partitions inside the block; add to `wrong` what was refused, or is not recorded once."""
    shops = [
        _Shop(deployment, partition, urls or deployment.urls) for partition in range(PARTITIONS) if partition != HOME
    ]
    try:
        await asyncio.gather(*(shop.open() for shop in shops))
        async with asyncio.TaskGroup() as group:
            selling = [group.create_task(shop.sell(PAUSE_S * len(shops))) for shop in shops]
            yield Beside(shops)
            for task in selling:
                task.cancel()
        for shop in shops:
            await wait_until(shop.is_recorded, "the record of another partition")
            wrong += shop.refused[:5]
    finally:
        for shop in shops:
            await shop.close()
